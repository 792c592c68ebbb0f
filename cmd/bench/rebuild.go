package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/runner"
)

// rebuildGoal is how many events per second all read models together are to be built from, on two cores.
const rebuildGoal = 50_000

// liveShare is the part of the log that is appended while no server runs, so that complete read models have to catch up.
const liveShare = 20

// rebuildAll begins to build all read models anew, beside those that serve.
func (b *bench) rebuildAll(ctx context.Context, s *server) error {
	text, err := exec.CommandContext(ctx, b.binary, "projections", "rebuild", "--all", "--data", s.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("rapport projections rebuild: %w\n%s", err, lastLines(string(text), 20))
	}
	return nil
}

// rebuilds compares ways of building read models from a large log.
func (b *bench) rebuilds(ctx context.Context) error {
	single, err := b.oneByOne(ctx)
	if err != nil {
		return err
	}
	a, err := b.aged(ctx)
	if err != nil {
		return err
	}
	b.say("rebuilding beside what serves")
	stop := a.watch()
	if err := b.rebuildAll(ctx, a.server); err != nil {
		return err
	}
	rebuilt, err := a.settled(ctx)
	rebuilding := stop()
	if err != nil {
		return err
	}
	more := a.events / liveShare
	b.say("catching up with %s more events", grouped(int64(more)))
	if err := a.end(); err != nil {
		return err
	}
	if err := b.extend(ctx, "aged", func(ctx context.Context, store *eventlog.Store) error {
		return fill(ctx, store, b.seed+1, more, nil)
	}); err != nil {
		return err
	}
	if a.server, err = b.start(ctx, "aged"); err != nil {
		return err
	}
	stop = a.watch()
	caught, err := a.settled(ctx)
	catching := stop()
	if err != nil {
		return err
	}
	live := float64(more) / caught.Seconds()
	t := table{head: []string{fmt.Sprintf("%d read models together", len(projections.All())), "events", "took", "events per second", "against one by one", "against catching up",
		"CPU of the server for one", "of PostgreSQL", "peak memory of the server", "of PostgreSQL", fmt.Sprintf("goal %s", grouped(rebuildGoal))}}
	line := func(name string, events int, took time.Duration, e effort, verdict string) {
		r := float64(events) / took.Seconds()
		t.add(name, grouped(int64(events)), secs(took), rate(r), fmt.Sprintf("%.1f", r/single), fmt.Sprintf("%.1f", r/live),
			micros(e.cpu.server/time.Duration(events)), micros(e.cpu.postgres/time.Duration(events)), megabytes(e.peak.server), megabytes(e.peak.postgres), verdict)
	}
	t.add("one transaction for each event", grouped(int64(b.baseline)), "", rate(single), "1", fmt.Sprintf("%.2f", single/live), "", "", "", "", "")
	line("complete read models, catching up", more, caught, catching, "")
	goal := func(took time.Duration) string { return verdict(float64(a.events)/took.Seconds(), rebuildGoal) }
	line("built for the first time", a.events, a.built, a.effort, goal(a.built))
	line("rebuilt beside what serves", a.events, rebuilt, rebuilding, goal(rebuilt))
	t.print(b.out)
	fmt.Fprintf(b.out, "\nThe real binary on a generated log, idle otherwise; from when it answers until all tables are switched to and up to date, indexes and verification included. "+
		"Peaks are of resident memory, looked at every %s; the server's has its event node. Catching up keeps the tables before up to date as well.\n", memoryInterval)
	return nil
}

// oneByOne returns how many events per second are applied in transactions of their own.
func (b *bench) oneByOne(ctx context.Context) (perSecond float64, err error) {
	if b.slow > 0 {
		return b.slow, nil // part c has measured it
	}
	r, err := b.newReplica(ctx, "onebyone")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := fill(ctx, eventlog.NewStore(r.log, r.registry), b.seed, b.baseline, nil); err != nil {
		return 0, err
	}
	head, err := r.log.Head(ctx)
	if err != nil {
		return 0, err
	}
	took, err := r.catchUp(ctx, "baseline", head.Position, runner.Options{BuildBytes: 1})
	b.slow = float64(b.baseline) / took.Seconds()
	return b.slow, err
}

// busyRate is how many commands per second are submitted while read models are rebuilt.
const busyRate = 500

// visibilityInRebuild tells how soon rows reflect commands while everything is rebuilt.
func (b *bench) visibilityInRebuild(ctx context.Context) error {
	a, err := b.aged(ctx)
	if err != nil {
		return err
	}
	if _, _, err := a.follow(ctx, busyRate, warmUp); err != nil {
		return err
	}
	_, quietly, err := a.follow(ctx, busyRate, b.visible)
	if err != nil {
		return err
	}
	if err := b.rebuildAll(ctx, a.server); err != nil {
		return err
	}
	_, busily, err := a.follow(ctx, busyRate, b.visible)
	if err != nil {
		return err
	}
	left, err := a.settled(ctx)
	if err != nil {
		return err
	}
	t := table{head: []string{fmt.Sprintf("receipt, until the row is read back, %d commands a second", busyRate), "reached", "p50", "p99", "ratio of p50", "ratio of p99"}}
	for _, line := range []struct {
		name string
		load load
	}{{"no rebuild", quietly}, {"while all read models are rebuilt", busily}} {
		ratio := func(q float64) string {
			return fmt.Sprintf("%.1f", float64(line.load.quantile(q))/float64(max(quietly.quantile(q), 1)))
		}
		t.add(line.name, rate(line.load.rate()), millis(line.load.quantile(.5)), millis(line.load.quantile(.99)), ratio(.5), ratio(.99))
	}
	t.print(b.out)
	fmt.Fprintf(b.out, "\nFor %s each, on a log of %s events; the rebuild went on for %s after the second.\n", b.visible, grouped(int64(a.events)), secs(left))
	return nil
}
