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

// followers is a kind of followers as the verbs about it know it.
type followers interface {
	kind() follow.Kind
	example() string // the name of one
	about() string   // when one exists
}

type reactors struct{}

func (reactors) kind() follow.Kind { return reactor.Kind }
func (reactors) example() string   { return "nats" }
func (reactors) about() string {
	return "A reactor exists once `rapport serve --publish …` has run with its name. It begins at the end of the log and never goes back."
}

type processes struct{}

func (processes) kind() follow.Kind { return processKind }
func (processes) example() string   { return "complete-merges" }
func (processes) about() string {
	return "A process turns events into commands; it exists once `rapport serve` has run with the role process. It never goes back, and rebuilding read models starts none."
}

// followersCommand are the verbs about one kind of followers.
type followersCommand[F followers] struct {
	Status followersStatus[F] `cmd:"" help:"Print how far each is."`
	Skip   followersSkip[F]   `cmd:"" help:"Decide that an event that cannot be handled is passed over."`
	Begin  followersBegin[F]  `cmd:"" help:"Begin anew at the end of the log, such as after a restore."`
}

// Help shows an example.
func (followersCommand[F]) Help() string {
	var of F
	return "Example: rapport " + of.kind().Plural + " status --data data\n\n" + of.about()
}

// withFollowers opens the stores.
func (s stores) withFollowers(ctx context.Context, c *console, do func(*pgxpool.Pool, *log) error) (err error) {
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

type followersStatus[F followers] struct {
	stores
	JSON bool `name:"json" help:"Print JSON."`
}

// Help shows an example.
func (followersStatus[F]) Help() string {
	var of F
	return "Example: rapport " + of.kind().Plural + " status --data data"
}

// Run ends with exitPartly when an event cannot be handled.
func (r followersStatus[F]) Run(ctx context.Context, c *console) error {
	var of F
	return r.withFollowers(ctx, c, func(pool *pgxpool.Pool, l *log) error {
		list, err := of.kind().Statuses(ctx, pool, l.Log, l.Registry)
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
			fmt.Fprintln(w, of.kind().Name+"\tposition\tbehind\tfailing\tproblem")
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

type followersSkip[F followers] struct {
	stores
	Name     string `arg:"" help:"Its name."`
	Position string `arg:"" help:"Position of the event, as the status prints it."`
	Reason   reason `help:"Why; it is kept." required:""`
}

// Help shows an example.
func (followersSkip[F]) Help() string {
	var of F
	return fmt.Sprintf("Example: rapport %s skip %s 4711 --data data --reason 'can never be handled'", of.kind().Plural, of.example())
}

// Run decides; whoever works on the follower goes on at its next attempt.
func (r followersSkip[F]) Run(ctx context.Context, c *console) error {
	var of F
	at, err := domain.ParsePosition(r.Position)
	if err != nil {
		return err
	}
	return r.withFollowers(ctx, c, func(pool *pgxpool.Pool, _ *log) error {
		if err := of.kind().Skip(ctx, pool, r.Name, at, operator(), string(r.Reason)); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s goes on without the event at %s\n", r.Name, at)
		return nil
	})
}

type followersBegin[F followers] struct {
	stores
	Name   string `arg:"" help:"Its name."`
	Reason reason `help:"Why; it is kept." required:""`
}

// Help shows an example.
func (followersBegin[F]) Help() string {
	var of F
	return fmt.Sprintf("Example: rapport %s begin %s --data data --reason 'restored from a backup'", of.kind().Plural, of.example())
}

// Run moves the checkpoint to the end of the log.
func (r followersBegin[F]) Run(ctx context.Context, c *console) error {
	var of F
	return r.withFollowers(ctx, c, func(pool *pgxpool.Pool, l *log) error {
		at, err := of.kind().Begin(ctx, pool, l.Log, r.Name, operator(), string(r.Reason))
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%s begins at %s\n", r.Name, at)
		return nil
	})
}
