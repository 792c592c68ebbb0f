// Package reactor turns events into effects outside: it publishes them to a broker. A reactor is a follower of the log, see
// package follow, that begins at the end of the log: an effect cannot be undone or made again, so that what has happened before
// a reactor existed has none.
//
// Every event behind that has its effect at least once, in the order of the log. A repetition, which a crash between an
// effect and its checkpoint makes, carries the id of the event: receivers drop it by that.
package reactor

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
)

// Kind is what reactors are among followers. The number of the lock is arbitrary, and the same for ever: processes of two
// binaries exclude each other by it.
var Kind = follow.Kind{Name: "reactor", Plural: "reactors", Lock: 0x7265_6163}

// Options says what a reactor does and how. Name, To and Tenants are required; other zero values mean the defaults of follow.Options.
type Options struct {
	Name       string          // of the checkpoint: another name is another reactor, which begins at the end of the log
	To         bus.Publisher   // where events go; the reactor does not close it
	Tenants    []domain.Tenant // whose events go there; at least one
	Types      []string        // names of event types, or beginnings of them that end in a dot; all but reservations when empty
	Bus        bus.Options     // how the log is cut, how long a failed effect waits, and the tracer
	Heartbeat  time.Duration   // how often an owner says that it works
	LockRetry  time.Duration   // how often a process that waits asks for the lock
	Retry      time.Duration   // first pause after a failure outside of effects
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Step       func(point string) error // called at the points that follow.Steps returns; for tests
}

// New checks the options. The tables of migrations.Apply must be there before anything else is called.
func New(pool *pgxpool.Pool, log follow.Log, decode bus.Decoder, opts Options) (*follow.Follower, error) {
	if opts.To == nil {
		return nil, fmt.Errorf("reactor %s has nowhere to publish to", opts.Name)
	}
	if len(opts.Tenants) == 0 {
		return nil, fmt.Errorf("reactor %s publishes the events of no tenant", opts.Name)
	}
	published := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rapport_reactor_published_total", Help: "Events that the broker has taken, repetitions included.",
	}, []string{Kind.Name})
	f, err := follow.New(pool, log, decode, follow.Options{
		Kind: Kind, Name: opts.Name, Start: follow.AtEnd, Handle: opts.publish, Wants: opts.wants,
		To:  &counted{opts.To, func() { published.WithLabelValues(opts.Name).Inc() }},
		Bus: opts.Bus, Heartbeat: opts.Heartbeat, LockRetry: opts.LockRetry, Retry: opts.Retry,
		Logger: opts.Logger, Registerer: opts.Registerer, Step: opts.Step,
	})
	if err != nil {
		return nil, err
	}
	if err := follow.Count(opts.Registerer, &published, opts.Name); err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", f, err)
	}
	return f, nil
}

// publish is the handler of reactors. The events of other tenants have no effect.
func (o Options) publish(_ context.Context, log string, item *bus.Item) (*bus.Outgoing, error) {
	for _, tenant := range o.Tenants {
		if event, sees := (domain.Caller{Tenant: tenant}).Redact(item.Event); sees {
			return cloudEvent(log, &bus.Item{Raw: item.Raw, Event: event})
		}
	}
	return nil, nil
}

// counted is a publisher that counts what was taken.
type counted struct {
	bus.Publisher
	taken func()
}

// Publish implements bus.Publisher.
func (c *counted) Publish(out *bus.Outgoing) error {
	err := c.Publisher.Publish(out)
	if err == nil {
		c.taken()
	}
	return err
}

// Chooses reports whether one of Options.Types, a name or a beginning that ends in a dot, stands for an event type.
func Chooses(t, eventType string) bool {
	return t == eventType || strings.HasSuffix(t, ".") && strings.HasPrefix(eventType, t)
}

// wants reports whether events of a type are published.
func (o Options) wants(eventType string) bool {
	if slices.ContainsFunc(o.Types, func(t string) bool { return Chooses(t, eventType) }) {
		return true
	}
	return len(o.Types) == 0 && !strings.HasPrefix(eventType, domain.ReservationName+".")
}
