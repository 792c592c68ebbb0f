package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

type projectionsCommand struct {
	Status   projectionsStatus   `cmd:"" help:"Print how each projection stands."`
	Rebuild  projectionsRebuild  `cmd:"" help:"Build tables anew from the log, beside those that serve, and switch to them."`
	Switch   projectionsSwitch   `cmd:"" help:"Switch readers to a build that is ready and was held back."`
	Rollback projectionsRollback `cmd:"" help:"Switch readers back to the build that served before."`
	Abandon  projectionsAbandon  `cmd:"" help:"Drop a build that has never served, also one that was held back or cannot go on."`
	Parked   projectionsParked   `cmd:"" help:"Print the events that a projection has set aside."`
	Retry    projectionsRetry    `cmd:"" help:"Apply parked events again, in order."`
	Discard  projectionsDiscard  `cmd:"" help:"Forget parked events; the audit keeps who and why."`
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
		if slices.ContainsFunc(statuses, func(s runner.Status) bool { return s.ParkedEvents > 0 || s.State == runner.Halted || failed(s) != "" }) {
			return errPartly
		}
		return nil
	})
}

// failed returns why a build beside the one that serves cannot go on, or "".
func failed(s runner.Status) string {
	for _, b := range s.Builds {
		if b.Problem != "" && b.Unfinished() {
			return b.Problem
		}
	}
	return ""
}

// printStatuses prints a line for each projection, and below it one for each other table that it has.
func printStatuses(out io.Writer, statuses []runner.Status) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "projection\tversion\tstate\tposition\tbehind\tparked\tproblem")
	for _, s := range statuses {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%d events, %s\t%d\t%s\n", s.Name, s.Version, s.State, s.Position, s.LagEvents, s.Lag.Round(time.Second), s.ParkedEvents, s.Problem)
		for _, b := range s.Builds {
			if b.Stage != "serving" {
				fmt.Fprintf(w, "  build %d\t%d\t%s\t%s\t%s\t\t%s\n", b.Build, b.Version, b.Stage, b.Position, outlook(b), b.Problem)
			}
		}
	}
	return w.Flush()
}

// outlook says how far a build is and how fast, or until when it is kept.
func outlook(b runner.Build) string {
	switch {
	case b.DropAt != nil:
		return "kept until " + b.DropAt.Format(time.RFC3339)
	case b.Hold && b.Stage == "ready":
		return "waits for rapport projections switch"
	case !b.Unfinished():
		return ""
	case b.Percent < 0: // nobody knows yet how many events there are
		return fmt.Sprintf("%d events, %.0f events/s", b.Events, b.Rate)
	case b.Left < 0:
		return fmt.Sprintf("%.0f %%", b.Percent)
	}
	return fmt.Sprintf("%.0f %%, %.0f events/s, %s left", b.Percent, b.Rate, b.Left.Round(time.Second))
}

type projectionsRebuild struct {
	stores
	Names  []string `arg:"" optional:"" name:"name" help:"The projections."`
	All    bool     `help:"Every projection, such as after the log was restored from a backup."`
	Switch bool     `help:"Switch to the new tables when they are verified." default:"true" negatable:""`
	Park   bool     `help:"Park what cannot be applied, instead of giving up there."`
	Wait   bool     `help:"Wait until it is done, and show how it goes."`
}

// Help shows an example.
func (projectionsRebuild) Help() string {
	return "Example: rapport projections rebuild customer opportunity --data data --wait\n\n" +
		"New tables are built beside those that serve, verified and switched to; readers notice nothing. Those replaced are kept up to date for a day, " +
		"so that `rapport projections rollback` can return to them. Projections named together share one scan of the log. " +
		"A running server does the work; without one --wait does it here, and otherwise the next server that starts."
}

// Validate refuses names together with --all, and neither.
func (p projectionsRebuild) Validate() error {
	if p.All == (len(p.Names) > 0) {
		return errors.New("say either which projections or --all")
	}
	return nil
}

// Run asks for the rebuild.
func (p projectionsRebuild) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		names := p.Names
		if p.All {
			names = r.Names()
		}
		if err := r.Rebuild(ctx, build.Ask{Projections: names, Actor: operator(), Hold: !p.Switch, Park: p.Park}); err != nil || !p.Wait {
			return err
		}
		group, ctx := errgroup.WithContext(ctx) // a runner that cannot go on ends the waiting
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		group.Go(func() error { return r.Run(ctx) }) // waits for a server's, if there is one
		group.Go(func() error {
			defer stop()
			return awaitBuilds(ctx, c, r, names)
		})
		return group.Wait()
	})
}

// buildPoll is how often a rebuild that is waited for is looked at.
const buildPoll = 500 * time.Millisecond

// awaitBuilds shows how builds go until none is on its way. One that has failed is an error.
func awaitBuilds(ctx context.Context, c *console, r *runner.Runner, names []string) error {
	shown := c.progress("rebuild")
	for {
		statuses, err := r.Status(ctx)
		if err != nil {
			return err
		}
		statuses = slices.DeleteFunc(statuses, func(s runner.Status) bool { return !slices.Contains(names, s.Name) })
		var coming []runner.Build
		var problems []error
		for _, s := range statuses {
			if problem := failed(s); problem != "" {
				problems = append(problems, fmt.Errorf("%s: %s", s.Name, problem))
			}
			for _, b := range s.Builds {
				if b.Unfinished() && b.Problem == "" && !(b.Stage == "ready" && b.Hold) {
					coming = append(coming, b)
				}
			}
		}
		if len(coming) == 0 {
			if len(problems) == 0 {
				shown.end(100, 100, "done")
			}
			return errors.Join(problems...)
		}
		last := slices.MinFunc(coming, func(a, b runner.Build) int { return cmp.Compare(a.Percent, b.Percent) })
		text := fmt.Sprintf("%s, %d events, %.0f a second", last.Stage, last.Events, last.Rate)
		if last.Left >= 0 {
			text += fmt.Sprintf(", %s left", last.Left.Round(time.Second))
		}
		if last.Percent < 0 {
			shown.step(last.Events, 0, text)
		} else {
			shown.step(int64(last.Percent), 100, text)
		}
		select {
		case <-time.After(buildPoll):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type projectionsSwitch struct {
	stores
	Name string `arg:"" help:"The projection."`
}

// Help shows an example.
func (projectionsSwitch) Help() string {
	return "Example: rapport projections switch customer --data data"
}

// Run switches to the build that waits.
func (p projectionsSwitch) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error { return r.Switch(ctx, p.Name, operator()) })
}

type projectionsRollback struct {
	stores
	Name string `arg:"" help:"The projection."`
}

// Help shows an example.
func (projectionsRollback) Help() string {
	return "Example: rapport projections rollback customer --data data"
}

// Run switches back.
func (p projectionsRollback) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error { return r.Rollback(ctx, p.Name, operator()) })
}

type projectionsAbandon struct {
	stores
	Name string `arg:"" help:"The projection."`
	JSON bool   `name:"json" help:"Print what was dropped as JSON."`
}

// Help shows an example.
func (projectionsAbandon) Help() string {
	return "Example: rapport projections abandon customer --data data\n\n" +
		"What serves and what is kept for rapport projections rollback is not touched; without a build on its way the command is refused."
}

// Run drops the builds that have never served.
func (p projectionsAbandon) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		dropped, err := r.Abandon(ctx, p.Name, operator())
		if err != nil {
			return err
		}
		if p.JSON {
			return json.NewEncoder(c.out).Encode(dropped)
		}
		for _, b := range dropped {
			fmt.Fprintf(c.out, "version %d, build %d, %s: dropped\n", b.Version, b.Build, b.Stage)
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
			return json.NewEncoder(c.out).Encode(append([]apply.ParkedStream{}, streams...)) // never null
		}
		for _, s := range streams {
			fmt.Fprintf(c.out, "%s  version %d, build %d  parked %s  %s\n", s.Stream, s.Version, s.Build, s.ParkedAt.Format(time.RFC3339), s.Error)
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

// reason is why somebody decides that events have no effect.
type reason string

// Validate refuses one that says nothing.
func (r reason) Validate() error {
	if strings.TrimSpace(string(r)) == "" {
		return errors.New("say why")
	}
	return nil
}

type projectionsDiscard struct {
	stores
	Name   string `arg:"" help:"The projection."`
	Stream string `help:"The stream whose parked events are forgotten." required:"" placeholder:"STREAM"`
	Reason reason `help:"Why; kept for the audit." required:""`
	JSON   bool   `name:"json" help:"Print the count as JSON."`
}

// Help shows an example.
func (projectionsDiscard) Help() string {
	return "Example: rapport projections discard customer --data data --stream main.customer-<uuid> --reason 'test data'"
}

// Run forgets the parked events.
func (p projectionsDiscard) Run(ctx context.Context, c *console) error {
	return p.with(ctx, c, func(r *runner.Runner) error {
		dropped, err := r.Discard(ctx, p.Name, p.Stream, operator(), string(p.Reason))
		if err != nil {
			return err
		}
		return c.count(p.JSON, "forgotten", dropped)
	})
}
