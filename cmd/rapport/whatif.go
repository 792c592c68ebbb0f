package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/whatif"
)

// replayWhatIf runs a projection with other parameters.
type replayWhatIf struct {
	stores
	tenant
	Projection string `help:"The projection, such as opportunity." required:"" placeholder:"NAME"`
	With       string `help:"YAML file with the parameters to change." required:"" type:"existingfile" placeholder:"FILE"`
	JSON       bool   `name:"json" help:"Print one JSON object a line: a difference each, the counts in the end."`
}

// Help shows an example.
func (replayWhatIf) Help() string {
	return "Example: rapport replay what-if --data data --projection opportunity --with cautious.yaml\n\n" +
		"where cautious.yaml holds probabilities: {Sales: {proposal: 40}}, the probability of winning from a stage in percent, by pipeline (name or id) and key of the stage. " +
		"The history is run through twice, as it is and with the parameters changed, in a scratch schema that is dropped again; every value that differs is printed. Nothing is written that anybody else sees."
}

// printedChange is the JSON form of a difference; members are missing for a row that only one side has.
type printedChange struct {
	Key    string          `json:"key"`
	Column string          `json:"column"`
	From   json.RawMessage `json:"from,omitempty"`
	To     json.RawMessage `json:"to,omitempty"`
}

// Run prints the differences.
func (r replayWhatIf) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	file, err := os.Open(r.With)
	if err != nil {
		return err
	}
	closing.add(file.Close)
	candidate, err := whatif.Parse(file)
	if err != nil {
		return err
	}
	l, err := r.openLog(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	postgres, err := r.openPostgres(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	run := whatif.Run{
		URL: postgres.URL, Log: l.Store, Tenant: domain.Tenant(r.Tenant), Projection: r.Projection, Candidate: candidate, Progress: foldingOn(c),
	}
	out := json.NewEncoder(c.out)
	summary, err := run.Do(ctx, func(change whatif.Change) error {
		if r.JSON {
			return out.Encode(printedChange{change.Key, change.Column, json.RawMessage(change.From), json.RawMessage(change.To)})
		}
		from, to := change.From, change.To
		if from == "" {
			from = "no row"
		}
		if to == "" {
			to = "no row"
		}
		_, err := fmt.Fprintf(c.out, "%s  %s  %s → %s\n", change.Key, change.Column, from, to)
		return err
	})
	if err != nil {
		return err
	}
	if r.JSON {
		return out.Encode(summary)
	}
	return printSummary(c, summary)
}

func printSummary(c *console, s whatif.Summary) error {
	if s.Unaffected {
		fmt.Fprintf(c.out, "%s does not depend on the parameters changed.\n", s.Projection)
	}
	if s.Parked > 0 {
		fmt.Fprintf(c.out, "%d streams are left out from an event on that %s cannot digest.\n", s.Parked, s.Projection)
	}
	_, err := fmt.Fprintf(c.out, "%s after %d events, up to position %s: %d rows, of which %d would be others (%d values); %d more, %d fewer.\n",
		s.Projection, s.Events, s.Position, s.Rows, s.Changed, s.Values, s.Added, s.Removed)
	return err
}

// foldingOn shows on the console how a what-if goes, measured in events of the log.
func foldingOn(c *console) func(whatif.Progress) {
	shown := c.progress("what if")
	return func(p whatif.Progress) {
		if text := shown.pace(p.Events, "events", p.Seen, p.Total); p.Ended {
			shown.end(p.Seen, p.Total, text)
		} else {
			shown.step(p.Seen, p.Total, text)
		}
	}
}
