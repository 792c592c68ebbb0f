// Package deadline wakes what is due: it asks a read model which declared moments have come, and submits the command of each. See
// domain.Deadline for the declarations.
//
//  1. A moment fires once. The key of its command follows from the stream, what is due and the moment, so that rows that lag behind
//     the log, a crash or a rebuild repeat a command that the bus recognises; and the decider decides again whether it is due.
//  2. Nothing rests on punctuality. The command occurred at the moment, and is recorded when it is submitted.
//  3. However much is due at once, no more than Rate commands are submitted in a second, Workers at a time: commands of clients find
//     a log that is hardly busier.
package deadline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// Bounds of the waker.
const (
	Every   = 2 * time.Second  // between two looks for what is due
	Turn    = time.Minute      // that one look works at most, before the next one
	Rate    = 500              // commands a second: 100,000 that are due at once take 200 seconds
	Workers = 4                // commands at a time
	page    = 500              // rows read at once
	report  = 10 * time.Second // between two lines of progress
)

// Due is a moment that has come.
type Due struct {
	Tenant    domain.Tenant
	Aggregate string
	ID        domain.ID
	What, Key string
	At        time.Time
}

// Rows are the read model of the deadlines.
type Rows interface {
	// Due returns what is due at a moment, the oldest first, behind one of them; the zero Due is before all.
	Due(ctx context.Context, now time.Time, after Due, limit int) ([]Due, error)
	// CountDue returns how much is due at a moment.
	CountDue(ctx context.Context, now time.Time) (int, error)
}

// Bus is what the waker needs of the command bus.
type Bus interface {
	Submit(ctx context.Context, r commands.Request) (commands.Receipt, error)
}

// Waker submits the commands of what is due.
type Waker struct {
	rows   Rows
	bus    Bus
	clock  func() time.Time
	logger *slog.Logger
	wakes  map[[2]string]domain.Deadline // by aggregate and what
	after  Due                           // that the turn before came to; zero when it came to the end
}

// New makes a waker for the deadlines that the aggregates declare, or says what is wrong with them.
func New(aggregates []domain.Definition, rows Rows, bus Bus, clock func() time.Time, logger *slog.Logger) (*Waker, error) {
	w := &Waker{rows: rows, bus: bus, clock: clock, logger: logger, wakes: map[[2]string]domain.Deadline{}}
	for _, a := range aggregates {
		types := map[string]bool{}
		for _, e := range a.Events {
			types[e.Type()] = true
		}
		for _, d := range a.Deadlines {
			name := [2]string{a.Name, d.What}
			if _, twice := w.wakes[name]; twice || d.What == "" || d.Doc == "" || d.Moves == nil || d.Wake == nil || len(d.Events) == 0 {
				return nil, fmt.Errorf("deadline %q of %s is declared twice or in part", d.What, a.Name)
			}
			for _, t := range d.Events {
				if !types[t] {
					return nil, fmt.Errorf("deadline %q of %s follows %q, which is no event of it", d.What, a.Name, t)
				}
			}
			w.wakes[name] = d
		}
	}
	return w, nil
}

// Request returns the command of a moment that has come, and false when nothing of it is declared.
func (w *Waker) Request(d Due) (commands.Request, bool) {
	declared, ok := w.wakes[[2]string{d.Aggregate, d.What}]
	if !ok {
		return commands.Request{}, false
	}
	at := d.At.UTC()
	return commands.Request{
		Tenant: d.Tenant, Actor: commands.System, Target: d.ID, Command: declared.Wake(d.Key, at),
		Key: strings.Join([]string{"deadline", d.What, string(d.ID), d.Key, at.Format(time.RFC3339Nano)}, " "),
	}, true
}

// Wake submits the commands of everything that is due, for one Turn at most; the next call goes on where it ended. What the deciders
// refuse is an answer. It returns the first error of a command, after which others were tried all the same, or that the log or
// the rows do not answer. It is not safe for concurrent use.
func (w *Waker) Wake(ctx context.Context) error {
	now := w.clock()
	left, err := w.rows.CountDue(ctx, now)
	if err != nil || left == 0 {
		w.after = Due{}
		return err
	}
	begun := time.Now()
	pace := time.NewTicker(time.Second / Rate)
	defer pace.Stop()
	var first error
	done, told := 0, begun
	for time.Since(begun) < Turn {
		rows, err := w.rows.Due(ctx, now, w.after, page)
		if err != nil {
			return err
		}
		if err := w.submit(ctx, rows, pace.C); err != nil {
			var away *domain.UnavailableError
			if errors.As(err, &away) || ctx.Err() != nil {
				return err
			}
			first = errors.Join(first, err)
		}
		if done += len(rows); len(rows) < page {
			w.after = Due{}
			break
		}
		w.after = rows[len(rows)-1]
		if time.Since(told) >= report {
			told = time.Now()
			rate := float64(done) / time.Since(begun).Seconds()
			w.logger.InfoContext(ctx, "waking what is due", "done", done, "left", max(left-done, 0), "per_second", int(rate),
				"eta", (time.Duration(float64(max(left-done, 0))/rate) * time.Second).String())
		}
	}
	return first
}

// submit submits the commands of a page, each when the pace says so, and waits for them. It returns the first error.
func (w *Waker) submit(ctx context.Context, rows []Due, pace <-chan time.Time) error {
	var group errgroup.Group
	group.SetLimit(Workers)
	for _, d := range rows {
		r, ok := w.Request(d)
		if !ok { // a newer binary has declared it
			continue
		}
		select {
		case <-pace:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), group.Wait())
		}
		group.Go(func() error {
			_, err := w.bus.Submit(ctx, r)
			var refused *domain.Rejection
			if errors.As(err, &refused) {
				w.logger.DebugContext(ctx, "what was due is refused", "aggregate", d.Aggregate, "id", d.ID, "what", d.What, "err", err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("wake %s %s for %s: %w", d.Aggregate, d.ID, d.What, err)
			}
			return nil
		})
	}
	return group.Wait()
}
