package runner

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/projections/runner/apply"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// copyAt returns a copy of the log as it was after n events. What is written to it then has other ids than what the log has at
// the same positions.
func (l *memoryLog) copyAt(t testing.TB, n int) *memoryLog {
	c := newLog(t)
	c.branch = l.branch + 1
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, raw := range l.events[:n] {
		c.events = append(c.events, raw)
		c.revision[raw.Stream] = raw.Revision + 1
	}
	return c
}

// replaced is a log in the place of which another can be put, as by a restore: subscriptions break and begin anew at the event
// that they have delivered last, as those of the port do.
type replaced struct {
	mu  sync.Mutex
	now *memoryLog
	end context.CancelFunc // of what is read from it
	ctx context.Context
}

func replaceable(l *memoryLog) *replaced {
	r := &replaced{}
	r.put(l)
	return r
}

func (r *replaced) put(l *memoryLog) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != nil {
		r.end()
	}
	r.now = l
	r.ctx, r.end = context.WithCancel(context.Background())
}

func (r *replaced) log() (*memoryLog, context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now, r.ctx
}

func (r *replaced) Subscribe(ctx context.Context, after domain.Mark) iter.Seq2[eventlog.Message, error] {
	return func(yield func(eventlog.Message, error) bool) {
		for {
			log, there := r.log()
			reading, stop := context.WithCancel(ctx)
			unhook := context.AfterFunc(there, stop)
			for m, err := range log.Subscribe(reading, after) {
				if err != nil && there.Err() != nil && ctx.Err() == nil && !errors.Is(err, eventlog.ErrOtherLog) {
					break
				}
				if m.Raw != nil {
					after = markOf(*m.Raw)
				}
				if !yield(m, err) || err != nil {
					unhook()
					stop()
					return
				}
			}
			unhook()
			stop()
		}
	}
}

func (r *replaced) ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	log, _ := r.log()
	return log.ReadAll(ctx, after)
}

func (r *replaced) Head(ctx context.Context) (domain.Mark, error) {
	log, _ := r.log()
	return log.Head(ctx)
}

func (r *replaced) Check(ctx context.Context, m domain.Mark) error {
	log, _ := r.log()
	return log.Check(ctx, m)
}

func (r *replaced) ID(ctx context.Context) (string, error) {
	log, _ := r.log()
	return log.ID(ctx)
}

// on makes a runner over a log that can be replaced.
func (f *fixture) on(log *replaced) *Runner {
	r := f.runner(quick(8), all()...)
	r.source = log
	return r
}

// refusesHistory fails the test unless all projections are halted and nothing lifts that but a rebuild.
func (f *fixture) refusesHistory(r *Runner) {
	f.t.Helper()
	before := f.rows()
	halted := func(what string) {
		f.t.Helper()
		statuses, err := r.Status(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		for _, s := range statuses {
			if s.State != Halted || s.Healthy() || s.Remedy != build.RebuildAll || !strings.Contains(s.Problem, build.RebuildAll) {
				f.t.Errorf("%s: %s is %s, %q", what, s.Name, s.State, s.Problem)
			}
		}
	}
	halted("at first")
	for _, name := range r.Names() {
		var refused *domain.Rejection
		if _, err := r.Retry(f.t.Context(), name, "", "tester"); !errors.As(err, &refused) || refused.Rule != "projection-of-another-history" {
			f.t.Errorf("retry of %s: %v", name, err)
		}
	}
	halted("after a retry")
	var history *build.OtherHistoryError
	if err := r.Run(f.t.Context()); !errors.As(err, &history) {
		f.t.Errorf("a restart ends with %v", err)
	}
	halted("after a restart")
	if after := f.rows(); after != before {
		f.t.Errorf("rows changed:\n%s\n%s", before, after)
	}
}

// S13: a log is restored from an older copy and has grown since, to before the checkpoints, to just there and past them; while
// nothing runs, or under a running projector; and with somebody else who goes on writing.
func TestRestoredCopyIsNoticedHoweverFarItHasGrown(t *testing.T) {
	t.Parallel()
	const had = 20
	for _, cut := range []int{7, had - 1} {
		for _, grown := range []int{0, had - cut, had - cut + 15} {
			for _, running := range []bool{false, true} {
				for _, writing := range []bool{false, true} {
					if writing && grown == 0 {
						continue // the writer makes it grow
					}
					t.Run(fmt.Sprintf("cut %d grown %d running %t writing %t", cut, grown, running, writing), func(t *testing.T) {
						t.Parallel()
						f := setUp(t)
						story(t, f.log, had)
						log := replaceable(f.log)
						r := f.on(log)
						stop := f.start(r)
						f.caughtUp("note", "total", "line")
						f.healed(r)
						if !running {
							if err := stop(); err != nil {
								t.Fatal(err)
							}
						}
						other := f.log.copyAt(t, cut)
						story(t, other, grown)
						log.put(other)
						f.log = other
						var writer sync.WaitGroup
						done := make(chan struct{})
						if writing {
							writer.Go(func() {
								for n := 0; n < 200; n++ {
									select {
									case <-done:
										return
									default:
										other.write(t, n%5, written{Text: fmt.Sprint("late ", n)})
									}
								}
							})
						}
						if running {
							f.eventually("the run to end", func() bool { return build.Refused(r.Err()) })
							var history *build.OtherHistoryError
							if err := stop(); !errors.As(err, &history) {
								t.Errorf("ended with %v", err)
							}
						}
						f.refusesHistory(f.on(log))
						close(done)
						writer.Wait()
						r = f.on(log)
						f.rebuild(r, r.Names()...)
						again := f.start(r)
						for _, name := range r.Names() {
							f.awaitBuild(name, 1, 2)
						}
						f.caughtUp("note", "total", "line")
						f.healed(r)
						statuses, err := r.Status(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						for _, s := range statuses {
							if s.State == Halted || s.Problem != "" || s.Remedy != "" {
								t.Errorf("%s is %s, %q", s.Name, s.State, s.Problem)
							}
						}
						for _, name := range r.Names() { // what was replaced is of the lost history
							var refused *domain.Rejection
							if err := r.Rollback(t.Context(), name, "tester"); !errors.As(err, &refused) {
								t.Errorf("rollback of %s: %v", name, err)
							}
						}
						if err := again(); err != nil {
							t.Fatal(err)
						}
						f.same()
					})
				}
			}
		}
	}
}

// A copy that has everything that the rows have is no other history.
func TestRestoredCopyThatLacksNothingIsGoneOnWith(t *testing.T) {
	t.Parallel()
	for _, running := range []bool{false, true} {
		f := setUp(t)
		story(t, f.log, 20)
		log := replaceable(f.log)
		r := f.on(log)
		stop := f.start(r)
		f.caughtUp("note", "total", "line")
		if !running {
			if err := stop(); err != nil {
				t.Fatal(err)
			}
		}
		other := f.log.copyAt(t, 20)
		story(t, other, 10)
		log.put(other)
		f.log = other
		if !running {
			stop = f.start(r)
		}
		f.caughtUp("note", "total", "line")
		f.healed(r)
		if err := stop(); err != nil {
			t.Error(err)
		}
		f.same()
	}
}

// A log that says that it is another one, while all that the rows have is still there, is read again from there: what it had told
// of since was not in the rows.
func TestLogThatLostWhatNobodyHasIsGoneOnWith(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	r := f.runner(quick(8), all()...)
	log := &brokenLog{memoryLog: f.log, err: eventlog.ErrOtherLog}
	log.times.Store(3)
	r.source = log
	f.catchUp(r)
	f.same()
}

// What lies between the last event and how far the log was searched may be another history's: an event there is applied.
func TestEventWhereTheLogHadBeenSearchedIsApplied(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	f.catchUp(f.runner(quick(8), all()...))
	if _, err := f.pool.Exec(t.Context(), "update projection.checkpoint set commit_position = 1950, prepare_position = 1950"); err != nil {
		t.Fatal(err)
	}
	story(t, f.log, 10) // at 1100 to 2000
	r := f.runner(quick(3), all()...)
	stop := f.start(r)
	f.caughtUp("note", "total", "line")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	f.same()
}

// Checkpoints of before name no event: it is noticed when none stands at their place, and the next event is named.
func TestCheckpointOfBeforeGetsTheIDOfTheNextEvent(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	f.catchUp(f.runner(quick(8), all()...))
	unnamed := func() (n int) {
		if err := f.conn.QueryRow(t.Context(), "select count(*) from projection.checkpoint where event_id = ''").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := unnamed(); n > 0 {
		t.Errorf("%d checkpoints name no event", n)
	}
	if _, err := f.pool.Exec(t.Context(), "update projection.checkpoint set event_id = ''"); err != nil {
		t.Fatal(err)
	}
	f.catchUp(f.runner(quick(8), all()...))
	if n := unnamed(); n != 3 {
		t.Errorf("%d checkpoints name no event while nothing came", n)
	}
	short := f.log.copyAt(t, 5)
	r := f.on(replaceable(short))
	f.refusesHistory(r)
	story(t, f.log, 1)
	f.catchUp(f.runner(quick(8), all()...))
	if n := unnamed(); n > 0 {
		t.Errorf("%d checkpoints name no event", n)
	}
	f.same()
}

// S13: two tables of which one is behind are read together; the log is replaced by a copy that has the last event of one and not
// that of the other. The rows of the other are not built upon, although the subscription has no reason to complain.
func TestEveryMemberOfALaneFindsItsEvent(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 20)
	r := f.runner(quick(1), all()...)
	l := f.takeOver(r)[0]
	f.handle(l, f.batch(0, 10))
	behind := *l.Members[0]
	f.handle(l, f.batch(10, 20))
	ahead := l.Members[1:]
	l.Members = append([]*apply.Member{&behind}, ahead...)
	f.log = f.log.copyAt(t, 15)
	story(t, f.log, 15)
	before := f.everything()
	for _, at := range [][2]int{{10, 30}, {15, 20}, {19, 20}} {
		batch := f.batch(at[0], at[1])
		batch.After = f.batch(0, 10).End
		if err := l.follows(batch); !errors.Is(err, eventlog.ErrOtherLog) {
			t.Errorf("events %v: %v", at, err)
		}
	}
	if err := l.handle(t.Context(), f.batch(10, 30)); !errors.Is(err, eventlog.ErrOtherLog) {
		t.Errorf("got %v", err)
	}
	if after := f.everything(); after != before {
		t.Errorf("rows changed:\n%s\n%s", before, after)
	}
}

// The switch to a build and the way back ask the log first, also where nobody has found out yet that it was replaced.
func TestSwitchAsksTheLogFirst(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 10)
	r := f.runner(quick(8), all()...)
	f.catchUp(r)
	if err := r.Rebuild(t.Context(), build.Ask{Projections: []string{"note"}, Actor: "tester", Hold: true}); err != nil {
		t.Fatal(err)
	}
	stop := f.start(r)
	f.await("the build to be ready", func() bool {
		var n int
		const sql = "select count(*) from projection.checkpoint where name = 'note' and state = 'ready'"
		if err := f.conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n == 1
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	other := f.log.copyAt(t, 5)
	story(t, other, 20)
	restored := f.on(replaceable(other))
	var refused *domain.Rejection
	if err := restored.Switch(t.Context(), "note", "tester"); !errors.As(err, &refused) || refused.Rule != "projection-of-another-history" {
		t.Errorf("switch: %v", err)
	}
	if err := restored.builds().Turn(t.Context(), []build.Key{{Name: "note", Version: 1, Number: 2}}, 0); !errors.As(err, &refused) || refused.Rule != "projection-of-another-history" {
		t.Errorf("turn: %v", err)
	}
	if err := r.Switch(t.Context(), "note", "tester"); err != nil {
		t.Fatal(err)
	}
	if err := restored.Rollback(t.Context(), "note", "tester"); !errors.As(err, &refused) || refused.Rule != "projection-of-another-history" {
		t.Errorf("rollback: %v", err)
	}
	if err := r.Rollback(t.Context(), "note", "tester"); err != nil {
		t.Error(err)
	}
}

// Progress is counted in events: positions of a log may lie any distance apart.
func TestProgressOfABuildIsCountedInEvents(t *testing.T) {
	t.Parallel()
	at := func(p uint64) domain.Position { return domain.Position{Commit: p, Prepare: p} }
	for name, c := range map[string]struct {
		build         Build
		total         int64
		percent, left float64
	}{
		"nothing serves":             {Build{Stage: build.Building, Position: at(10), Events: 5, Rate: 1}, 0, -1, -1},
		"what serves began later":    {Build{Stage: build.Building, Position: at(10), Events: 5, Rate: 1}, 4, -1, -1},
		"a quarter, late in the log": {Build{Stage: build.Building, Position: at(999), Events: 5, Rate: 3}, 20, 25, 5},
		"no rate":                    {Build{Stage: build.Building, Position: at(10), Events: 5}, 20, 25, -1},
		"done":                       {Build{Stage: build.Ready, Position: at(1000), Events: 5, Rate: 1}, 20, 100, 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.build
			b.progress(at(1000), c.total)
			left := b.Left.Seconds()
			if b.Left < 0 {
				left = -1
			}
			if b.Percent != c.percent || left != c.left {
				t.Errorf("%v %%, %v s left", b.Percent, left)
			}
		})
	}
}
