package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/reactor"
)

type reactorsCommand struct {
	Status reactorsStatus `cmd:"" help:"Print how far each reactor is."`
	Skip   reactorsSkip   `cmd:"" help:"Decide that an event that cannot be published is not."`
	Begin  reactorsBegin  `cmd:"" help:"Let a reactor begin anew at the end of the log, such as after a restore."`
}

// Help shows an example.
func (reactorsCommand) Help() string {
	return "Example: rapport reactors status --data data\n\nA reactor exists once `rapport serve --publish …` has run with its name. It begins at the end of the log and never goes back."
}

// withReactors opens the stores.
func (s stores) withReactors(ctx context.Context, c *console, do func(*pgxpool.Pool, *log) error) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	l, err := s.openLog(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	postgres, err := s.openPostgres(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, postgres.URL, 0, &closing)
	if err != nil {
		return err
	}
	return do(pool, l)
}

type reactorsStatus struct {
	stores
	JSON bool `name:"json" help:"Print JSON."`
}

// Help shows an example.
func (reactorsStatus) Help() string { return "Example: rapport reactors status --data data" }

// Run ends with exitPartly when an event cannot be published.
func (r reactorsStatus) Run(ctx context.Context, c *console) error {
	return r.withReactors(ctx, c, func(pool *pgxpool.Pool, l *log) error {
		list, err := reactor.Kind.Statuses(ctx, pool, l.Log, l.Registry)
		if err != nil {
			return err
		}
		if r.JSON {
			if list == nil {
				list = []follow.Status{}
			}
			err = json.NewEncoder(c.out).Encode(list)
		} else {
			w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "reactor\tposition\tbehind\tfailing\tproblem")
			for _, s := range list {
				failing := "-"
				if s.Failing != nil {
					failing = fmt.Sprintf("%s, %s", s.Failing, s.FailingFor.Round(time.Second))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name, s.Position, s.Lag.Round(time.Second), failing, s.Problem)
			}
			err = w.Flush()
		}
		if err == nil && slices.ContainsFunc(list, func(s follow.Status) bool { return !s.Healthy() }) {
			return errPartly
		}
		return err
	})
}

type reactorsSkip struct {
	stores
	Name     string `arg:"" help:"The reactor."`
	Position string `arg:"" help:"Position of the event, as rapport reactors status prints it."`
	Reason   reason `help:"Why; it is kept." required:""`
}

// Help shows an example.
func (reactorsSkip) Help() string {
	return "Example: rapport reactors skip nats 4711 --data data --reason 'larger than the broker takes'"
}

// Run decides; whoever works on the reactor goes on at its next attempt.
func (r reactorsSkip) Run(ctx context.Context, c *console) error {
	at, err := domain.ParsePosition(r.Position)
	if err != nil {
		return err
	}
	return r.withReactors(ctx, c, func(pool *pgxpool.Pool, _ *log) error {
		if err := reactor.Kind.Skip(ctx, pool, r.Name, at, operator(), string(r.Reason)); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s goes on without the event at %s\n", r.Name, at)
		return nil
	})
}

type reactorsBegin struct {
	stores
	Name   string `arg:"" help:"The reactor."`
	Reason reason `help:"Why; it is kept." required:""`
}

// Help shows an example.
func (reactorsBegin) Help() string {
	return "Example: rapport reactors begin nats --data data --reason 'restored from a backup'"
}

// Run moves the checkpoint to the end of the log.
func (r reactorsBegin) Run(ctx context.Context, c *console) error {
	return r.withReactors(ctx, c, func(pool *pgxpool.Pool, l *log) error {
		at, err := reactor.Kind.Begin(ctx, pool, l.Log, r.Name, operator(), string(r.Reason))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s begins at %s\n", r.Name, at)
		return nil
	})
}
