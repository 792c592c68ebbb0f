package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/commands/process"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
)

// processKind is what processes are among followers. The number of the lock is arbitrary, and the same for ever: processes of two
// binaries exclude each other by it.
var processKind = follow.Kind{Name: "process", Plural: "processes", Lock: 0x7072_6f63}

// starts are the places at which processes begin, as followers know them.
var starts = map[process.Start]follow.Start{process.AtBeginning: follow.AtBeginning, process.AtEnd: follow.AtEnd}

// newProcesses makes a follower of each declaration, which submits its commands to a bus.
func newProcesses(list []process.Process, to process.Bus, pool *pgxpool.Pool, l *log, logger *slog.Logger, metrics prometheus.Registerer, tracer trace.Tracer) ([]*follow.Follower, error) {
	if err := process.Check(list, aggregates.All()); err != nil {
		return nil, err
	}
	refusals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rapport_process_refused_total", Help: "Commands that a decider has refused.",
	}, []string{processKind.Name})
	var followers []*follow.Follower
	for _, p := range list {
		f, err := follow.New(pool, l.Log, l.Registry, follow.Options{
			Kind: processKind, Name: p.Name, Start: starts[p.Start], Wants: p.Wants,
			Handle: func(ctx context.Context, _ string, event *bus.Item) (*bus.Outgoing, error) {
				refused, err := p.Do(ctx, to, event.Event)
				for _, r := range refused {
					refusals.WithLabelValues(p.Name).Inc()
					logger.WarnContext(ctx, "command of a process refused", processKind.Name, p.Name, "position", event.Raw.Position, "err", r)
				}
				return nil, err
			},
			Bus: bus.Options{Tracer: tracer}, Logger: logger, Registerer: metrics,
		})
		if err != nil {
			return nil, err
		}
		if err := follow.Count(metrics, &refusals, p.Name); err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", f, err)
		}
		followers = append(followers, f)
	}
	return followers, nil
}
