package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/rapport-crm/rapport/projections/runner"
)

type projectionsCommand struct {
	Status  projectionsStatus  `cmd:"" help:"Print how each projection stands."`
	Rebuild projectionsRebuild `cmd:"" help:"Empty a projection's table and build it from the beginning of the log."`
	Parked  projectionsParked  `cmd:"" help:"Print the events that a projection has set aside."`
	Retry   projectionsRetry   `cmd:"" help:"Apply parked events again, in order."`
	Discard projectionsDiscard `cmd:"" help:"Forget parked events; the audit keeps who and why."`
}

// Help shows an example.
func (projectionsCommand) Help() string { return "Example: rapport projections status --data data" }

// projector opens the runner that the flags choose, without running it.
func (s stores) projector(ctx context.Context, c *console, closing *closers) (*runner.Runner, error) {
	l, err := s.openLog(ctx, c.log, closing)
	if err != nil {
		return nil, err
	}
	postgres, err := s.openPostgres(ctx, c.log, closing)
	if err != nil {
		return nil, err
	}
	return newRunner(ctx, postgres.URL, l, runner.Options{Logger: c.log}, closing)
}

// with runs f with the runner and closes everything afterwards.
func (s stores) with(ctx context.Context, c *console, f func(*runner.Runner) error) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	r, err := s.projector(ctx, c, &closing)
	if err != nil {
		return err
	}
	return f(r)
}

// operator names who asks, for the audit.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "unknown"
}

type projectionsStatus struct {
	stores
	JSON bool `name:"json" help:"Print as JSON."`
}

// Help shows an example.
func (projectionsStatus) Help() string { return "Example: rapport projections status --data data" }

// Run prints one line for each projection. The exit code says whether one needs somebody's attention.
func (p projectionsStatus) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		statuses, err := r.Status(ctx)
		if err != nil {
			return err
		}
		print := printStatuses
		if p.JSON {
			print = func(w io.Writer, statuses []runner.Status) error { return json.NewEncoder(w).Encode(statuses) }
		}
		if err := print(c.out, statuses); err != nil {
			return err
		}
		if slices.ContainsFunc(statuses, func(s runner.Status) bool { return s.ParkedEvents > 0 || s.State == runner.Halted }) {
			return errPartly
		}
		return nil
	})
}

func printStatuses(out io.Writer, statuses []runner.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "projection\tversion\tstate\tposition\tbehind\tparked\tproblem")
	for _, s := range statuses {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d events, %s\t%d\t%s\n", s.Name, s.Version, s.State, s.Position, s.LagEvents, s.Lag.Round(time.Second), s.ParkedEvents, s.Problem)
	}
	return w.Flush()
}

type projectionsRebuild struct {
	stores
	Name string `arg:"" optional:"" help:"The projection."`
	All  bool   `help:"Every projection, such as after the log was restored from a backup."`
}

// Help shows an example.
func (projectionsRebuild) Help() string {
	return "Example: rapport projections rebuild customer --data data\n\n" +
		"A running server does the work at once; without one it is done by the next that starts. Readers see the table grow."
}

// Validate refuses a name together with --all, and neither.
func (p projectionsRebuild) Validate() error {
	if p.All == (p.Name != "") {
		return errors.New("say either which projection or --all")
	}
	return nil
}

// Run asks for the rebuild.
func (p projectionsRebuild) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		if !p.All {
			return r.Rebuild(ctx, p.Name, operator())
		}
		statuses, err := r.Status(ctx)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			if err := r.Rebuild(ctx, s.Name, operator()); err != nil {
				return err
			}
		}
		return nil
	})
}

type projectionsParked struct {
	stores
	Name string `arg:"" help:"The projection."`
	JSON bool   `name:"json" help:"Print as JSON."`
}

// Help shows an example.
func (projectionsParked) Help() string {
	return "Example: rapport projections parked customer --data data"
}

// Run prints the parked streams and their events.
func (p projectionsParked) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		streams, err := r.Parked(ctx, p.Name)
		if err != nil {
			return err
		}
		if p.JSON {
			return json.NewEncoder(c.out).Encode(append([]runner.ParkedStream{}, streams...)) // never null
		}
		for _, s := range streams {
			fmt.Fprintf(c.out, "%s  parked %s  %s\n", s.Stream, s.ParkedAt.Format(time.RFC3339), s.Error)
			for _, e := range s.Events {
				fmt.Fprintf(c.out, "  %s  revision %d  %s\n", e.Position, e.Revision, e.Type)
			}
		}
		return nil
	})
}

// count prints how many events something happened to.
func (c *console) count(asJSON bool, what string, n int) error {
	if asJSON {
		return json.NewEncoder(c.out).Encode(map[string]int{what: n})
	}
	_, err := fmt.Fprintf(c.out, "%d events %s\n", n, what)
	return err
}

type projectionsRetry struct {
	stores
	Name   string `arg:"" help:"The projection."`
	Stream string `help:"One stream only; all parked ones when left out." placeholder:"STREAM"`
	JSON   bool   `name:"json" help:"Print the count as JSON."`
}

// Help shows an example.
func (projectionsRetry) Help() string {
	return "Example: rapport projections retry customer --data data"
}

// Run applies the parked events.
func (p projectionsRetry) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		applied, err := r.Retry(ctx, p.Name, p.Stream, operator())
		if err != nil && applied == 0 {
			return err
		}
		return errors.Join(err, c.count(p.JSON, "applied", applied))
	})
}

type projectionsDiscard struct {
	stores
	Name   string `arg:"" help:"The projection."`
	Stream string `help:"The stream whose parked events are forgotten." required:"" placeholder:"STREAM"`
	Reason string `help:"Why; kept for the audit." required:""`
	JSON   bool   `name:"json" help:"Print the count as JSON."`
}

// Help shows an example.
func (projectionsDiscard) Help() string {
	return "Example: rapport projections discard customer --data data --stream main.customer-<uuid> --reason 'test data'"
}

// Run forgets the parked events.
func (p projectionsDiscard) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		dropped, err := r.Discard(ctx, p.Name, p.Stream, operator(), p.Reason)
		if err != nil {
			return err
		}
		return c.count(p.JSON, "forgotten", dropped)
	})
}
