package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rapport-crm/rapport/domain"
)

// Submission is one command on its way to the bus.
type Submission struct {
	Key     string    // idempotency key
	Target  domain.ID // empty for commands that create
	Command domain.Command
}

// Submit hands a command to the bus. It reports whether the command changed something now; false means that it had been
// accepted before or that everything was so already. It must be safe for concurrent use.
type Submit func(context.Context, Submission) (changed bool, err error)

// Counts says truthfully what became of the rows of one input. Rows = RowsRejected + those of which every command was
// accepted, unchanged or not wanted, unless the import was stopped: then some rows were read and not submitted.
// Commands = Accepted + Unchanged + Rejected + NotTried.
type Counts struct {
	File         string `json:"file"`
	Rows         int64  `json:"rows"`         // read, not counting a header
	RowsRejected int64  `json:"rowsRejected"` // rows in the rejects file
	Units        int64  `json:"units"`        // rows, or groups of rows
	Commands     int64  `json:"commands"`
	Accepted     int64  `json:"accepted"`
	Unchanged    int64  `json:"unchanged"`
	Rejected     int64  `json:"rejected"`
	NotTried     int64  `json:"notTried"` // behind a rejected command of the same unit
}

// Reported is one oddity that the mapping asked to count.
type Reported struct {
	File    string `json:"file"`
	Message string `json:"message"`
	Value   string `json:"value"`
	Units   int64  `json:"units"`
}

// Result is the outcome of an import.
type Result struct {
	Source  string     `json:"source"`
	Inputs  []Counts   `json:"inputs"`
	Reports []Reported `json:"reports"`
	NotRead []string   `json:"notRead,omitempty"` // files that the mapping does not name
}

// Progress is where a running import stands.
type Progress struct {
	File      string
	Pass      int   // 1-based
	Passes    int   //
	Read      int64 // bytes of the file
	Size      int64 // bytes of the file
	Rows      int64
	Commands  int64
	Rate      float64       // rows a second of this pass so far
	Remaining time.Duration // of this pass, from its bytes so far; 0 when not known yet
	Ended     bool          // the pass is over, and this is the last word on it
}

// Options says how to run a plan.
type Options struct {
	Submit   Submit
	Rejects  io.Writer      // receives the rejected rows as CSV; nil drops them, the counts stay
	Writers  int            // units submitted at the same time; 0 means DefaultWriters
	Progress func(Progress) // called about once a second; nil means never
}

// Run executes the plan. It returns what was done so far together with any error that stopped it; starting it again
// resumes. Cancelling ctx stops it after the units under way.
func (p *Plan) Run(ctx context.Context, o Options) (Result, error) {
	result := Result{Source: p.source, Reports: []Reported{}, NotRead: p.notRead}
	rejects := newRejects(o.Rejects)
	for i, in := range p.inputs {
		r := &run{
			plan: p, in: in, options: o, rejects: rejects, pass: i + 1,
			counts: Counts{File: filepath.Base(in.path)}, reported: map[reportKey]int64{}, seen: map[string]bool{},
		}
		err := r.input(ctx)
		result.Inputs = append(result.Inputs, r.total())
		result.Reports = append(result.Reports, r.reports()...)
		if err != nil {
			return result, errors.Join(fmt.Errorf("%s: %w", filepath.Base(in.path), err), rejects.flush())
		}
	}
	return result, rejects.flush()
}

// run is the state of one input's pass.
type run struct {
	plan    *Plan
	in      *inputPlan
	options Options
	rejects *rejects
	pass    int
	source  *source
	seen    map[string]bool // keys of `once` commands, and of finished groups; only the reader uses it
	turns   turns

	mu       sync.Mutex
	counts   Counts
	reported map[reportKey]int64

	rows, commands atomic.Int64 // copies for Progress
}

type reportKey struct {
	rule  int
	value string
}

// unit is what one evaluation of the commands sees: a row, or the rows of a group.
type unit struct {
	rows  []record
	vars  scope
	steps []step
	turn
}

// step is a command that a unit wants, or why that cannot be told.
type step struct {
	command *commandPlan
	key     string
	target  domain.ID // empty for commands that create
	err     error
}

func (r *run) input(ctx context.Context) error {
	src, err := openSource(r.in.path, r.in.format)
	if err != nil {
		return err
	}
	defer src.Close()
	r.source = src

	writers := r.options.Writers
	if writers <= 0 {
		writers = DefaultWriters
	}
	stopProgress := r.showProgress()
	defer stopProgress()
	group, ctx := errgroup.WithContext(ctx)
	units := make(chan *unit, writers)
	group.Go(func() error {
		defer close(units)
		return r.readUnits(ctx, units)
	})
	for range writers {
		group.Go(func() error {
			for u := range units {
				if err := r.submitUnit(ctx, u); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// readUnits reads rows in order, carries the state, forms groups, decides `once` and gives the units their turns: what
// depends on the order of rows happens here, the rest in the writers.
func (r *run) readUnits(ctx context.Context, units chan<- *unit) error {
	state := map[string]any{}
	for name, cell := range r.in.state {
		v, err := cell.init.value(scope{})
		if err != nil {
			return err
		}
		state[name] = v
	}
	groups := openGroups{units: map[string]*unit{}}
	for {
		row, err := r.source.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		r.rows.Add(1)
		vars := scope{nameRow: row.cells, nameNumber: int64(row.number), nameState: state}
		if err = row.err; err == nil {
			state, err = r.advance(state, vars)
			vars[nameState] = state
		}
		switch {
		case err != nil:
		case r.in.group == nil:
			if err := r.send(ctx, units, &unit{rows: []record{row}, vars: vars}); err != nil {
				return err
			}
		default:
			err = r.addToGroup(&groups, row, vars)
		}
		if err != nil {
			if err := r.reject(unit{rows: []record{row}}, "", err); err != nil {
				return err
			}
		}
		if len(groups.order) > MaxOpenGroups {
			if err := r.send(ctx, units, groups.oldest()); err != nil {
				return err
			}
		}
	}
	for len(groups.order) > 0 {
		if err := r.send(ctx, units, groups.oldest()); err != nil {
			return err
		}
	}
	return nil
}

// openGroups are the groups that may still get rows, in the order of their first rows.
type openGroups struct {
	order []string
	units map[string]*unit
}

func (g *openGroups) oldest() *unit {
	key := g.order[0]
	u := g.units[key]
	g.order = g.order[1:]
	delete(g.units, key)
	return u
}

// addToGroup puts a row into its group; the error is the row's.
func (r *run) addToGroup(groups *openGroups, row record, vars scope) error {
	key, err := r.in.group.text(vars)
	if err != nil {
		return err
	}
	if key == "" {
		return errors.New("the group is empty: rows without one would pass for the same")
	}
	if u, open := groups.units[key]; open {
		if len(u.rows) >= MaxGroupRows {
			return fmt.Errorf("group %q has more than %d rows", key, MaxGroupRows)
		}
		u.rows = append(u.rows, row)
		return nil
	}
	if r.seen["group "+key] {
		return fmt.Errorf("more than %d other groups stand between the rows of group %q: sort the file by it", MaxOpenGroups, key)
	}
	if err := r.remember("group " + key); err != nil {
		return err
	}
	groups.order = append(groups.order, key)
	groups.units[key] = &unit{rows: []record{row}, vars: vars}
	return nil
}

// send settles what depends on the order of units and hands the unit to the writers. The error ends the import.
func (r *run) send(ctx context.Context, units chan<- *unit, u *unit) error {
	if err := r.settle(u); err != nil {
		return r.reject(*u, "", err)
	}
	select {
	case units <- u:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// advance computes the state after a row; every cell sees the state before it.
func (r *run) advance(state map[string]any, vars scope) (map[string]any, error) {
	if len(r.in.state) == 0 {
		return state, nil
	}
	next := make(map[string]any, len(state))
	for name, cell := range r.in.state {
		v, err := cell.next.value(vars)
		if err != nil {
			return state, err
		}
		next[name] = v
	}
	return next, nil
}

// settle completes the unit's variables, finds the commands that it wants, in the order of rows for those that count
// `once`, and gives it its turn with each aggregate that they are for.
func (r *run) settle(u *unit) error {
	rows := make([]any, len(u.rows))
	for i, row := range u.rows {
		rows[i] = row.cells
	}
	u.vars[nameRows] = rows
	for _, let := range r.in.lets {
		v, err := let.value.value(u.vars)
		if err != nil {
			return err
		}
		u.vars[let.name] = v
	}
	var touched []domain.ID
	for _, c := range r.in.commands {
		wanted, err := c.when.truth(u.vars)
		if err == nil && !wanted {
			continue
		}
		s := step{command: c, err: err}
		id, passed := r.aim(&s, u.vars)
		if id != "" {
			touched = append(touched, id)
		}
		if !passed {
			u.steps = append(u.steps, s)
		}
	}
	if len(u.steps) > 0 { // the others submit nothing that could come too early, and would keep a writer waiting
		r.turns.enter(u, touched)
	}
	return nil
}

// aim completes a step, unless it has an error, and returns the aggregate that it is for. It reports whether the step is
// of a `once` command that an earlier unit has had.
func (r *run) aim(s *step, vars scope) (id domain.ID, passed bool) {
	if s.err != nil {
		return "", false
	}
	c := s.command
	if s.key, s.err = c.key.text(vars); s.err == nil && s.key == "" {
		s.err = errors.New("the key is empty: rows without one would pass for the same")
	}
	if s.err != nil {
		return "", false
	}
	if c.target == nil {
		id = r.plan.keyID(r.plan.key(c.spec.Type(), s.key), c.aggregate)
	} else {
		var target string
		if target, s.err = c.target.text(vars); s.err != nil {
			return "", false
		}
		if s.target, s.err = domain.ParseID(target); s.err != nil {
			return "", false
		}
		id = s.target
	}
	if !c.once {
		return id, false
	}
	key := c.spec.Type() + " " + s.key
	if r.seen[key] {
		return id, true
	}
	s.err = r.remember(key)
	return id, false
}

func (r *run) remember(key string) error {
	if len(r.seen) >= MaxKeysSeen {
		return fmt.Errorf("more than %d keys to remember: split the file", MaxKeysSeen)
	}
	r.seen[key] = true
	return nil
}

// submitUnit submits the commands of one unit, in order, when it is its turn. Only an error that must stop the import is
// returned.
func (r *run) submitUnit(ctx context.Context, u *unit) error {
	defer r.turns.leave(u)
	if err := u.wait(ctx); err != nil {
		return err
	}
	var tried, accepted, unchanged int64
	count := func(rejected, notTried int64) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.counts.Units++
		r.counts.Commands += tried + notTried
		r.counts.Accepted += accepted
		r.counts.Unchanged += unchanged
		r.counts.Rejected += rejected
		r.counts.NotTried += notTried
	}
	if err := r.report(u); err != nil {
		return r.reject(*u, "", err)
	}
	for i, s := range u.steps {
		tried++
		r.commands.Add(1)
		changed, err := r.submit(ctx, s, u.vars)
		switch {
		case err == nil && changed:
			accepted++
		case err == nil:
			unchanged++
		case stops(err):
			tried--
			count(0, 0)
			return err
		default:
			count(1, int64(len(u.steps)-i-1))
			return r.reject(*u, s.command.spec.Type(), err)
		}
	}
	count(0, 0)
	return nil
}

// stops reports whether err ends the import rather than one row.
func stops(err error) bool {
	var unavailable *domain.UnavailableError
	return errors.As(err, &unavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// submit builds and submits one command; while the event log is unavailable it waits and tries again.
func (r *run) submit(ctx context.Context, step step, vars scope) (bool, error) {
	if step.err != nil {
		return false, step.err
	}
	command, err := step.command.build(vars)
	if err != nil {
		return false, err
	}
	s := Submission{Key: r.plan.key(step.command.spec.Type(), step.key), Target: step.target, Command: command}
	wait := 100 * time.Millisecond
	for attempt := 0; ; attempt++ {
		changed, err := r.options.Submit(ctx, s)
		var unavailable *domain.UnavailableError
		if attempt == maxSubmitRetries || !errors.As(err, &unavailable) {
			return changed, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(wait/2 + rand.N(wait)):
			wait *= 2
		}
	}
}

// report counts the oddities of a unit.
func (r *run) report(u *unit) error {
	for i, rule := range r.in.reports {
		odd, err := rule.when.truth(u.vars)
		if err != nil {
			return err
		}
		if !odd {
			continue
		}
		value := ""
		if rule.value != nil {
			if value, err = rule.value.text(u.vars); err != nil {
				return err
			}
		}
		r.mu.Lock()
		key := reportKey{i, value}
		if _, known := r.reported[key]; !known && len(r.reported) >= MaxReportValues {
			key.value = "(other values)"
		}
		r.reported[key]++
		r.mu.Unlock()
	}
	return nil
}

// reject writes the rows of a unit to the rejects file. The error it returns is the file's, never the row's.
func (r *run) reject(u unit, command string, reason error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.RowsRejected += int64(len(u.rows))
	return r.rejects.write(r.source, u.rows, command, reason)
}

func (r *run) total() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.counts.Rows = r.rows.Load()
	return r.counts
}

// showProgress reports about once a second until the returned function is called, and once more then.
func (r *run) showProgress() (stop func()) {
	if r.options.Progress == nil {
		return func() {}
	}
	start := time.Now()
	show := func(ended bool) {
		p := Progress{Ended: ended,
			File: r.counts.File, Pass: r.pass, Passes: len(r.plan.inputs),
			Read: r.source.read.Load(), Size: r.source.size, Rows: r.rows.Load(), Commands: r.commands.Load(),
		}
		elapsed := max(time.Since(start), time.Millisecond)
		p.Rate = float64(p.Rows) / elapsed.Seconds()
		if p.Read > 0 {
			p.Remaining = time.Duration(float64(elapsed) * float64(p.Size-p.Read) / float64(p.Read))
		}
		r.options.Progress(p)
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				show(false)
			case <-done:
				show(true)
				return
			}
		}
	}()
	return func() { close(done); <-stopped }
}
