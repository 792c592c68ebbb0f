package projection

import (
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/rapport-crm/rapport/domain"
)

// Engine evaluates a projection against its stored table, batch by batch. It does no I/O: its caller loads the rows that
// a Step misses and stores what it evaluates to, in one transaction with the checkpoint. It is not safe for concurrent use.
type Engine interface {
	// Reset forgets all rows kept, and must be called whenever the table may have changed otherwise than by the last
	// committed Step. empty says that the table has no rows, which saves loads.
	Reset(empty bool)
	// Begin starts a step over the matching events among events, which are in log order and belong to the step until it is
	// over. It returns an *EventError when the projection's code fails.
	Begin(events []domain.Recorded) (Step, error)
}

// Step is one batch on its way into a table: load what is missing, evaluate, store, and after the commit tell so.
type Step interface {
	// Events returns how many of the events matter to the projection.
	Events() int
	// Missing returns the parameters of Table.SelectSQL, or nil when nothing is to be loaded.
	Missing() []any
	// Target returns what the next row loaded is scanned into; Loaded takes the row when that is done.
	Target() []any
	Loaded()
	// Evaluate folds the events, or returns an *EventError when the projection's code fails. Rows that the table does not
	// have yet go into Copy when there are at least bulk of them; never when bulk is 0.
	Evaluate(bulk int) (Writes, error)
	// Committed keeps the rows for later steps.
	Committed()
}

// Writes is what a step changes in the table.
type Writes struct {
	Fresh   int    // rows that the table does not have yet, as far as the engine knows: some of those below
	Copy    []byte // what Table.CopySQL reads, valid until the engine's next step; a row that is there already fails it
	Copied  int    // rows in it
	Upsert  []any  // parameters of Table.UpsertSQL
	Upserts int    // rows in them
	Delete  []any  // parameters of Table.DeleteSQL
	Deletes int
}

// folding is the pure part of a Fold.
type folding[K comparable, R any] struct {
	Fold[K, R]
	compiled *Compiled
	key      *keyCopier
	round    func(reflect.Value)
}

// keys returns the distinct keys that an event touches.
func (f *folding[K, R]) keys(i int, e *domain.Recorded) (keys []K, err error) {
	defer catch(i, e, &err)
	keys = f.Keys(*e)
	for n, k := range keys {
		if slices.Contains(keys[:n], k) {
			return distinct(keys), nil
		}
	}
	return keys, nil
}

func distinct[K comparable](keys []K) (list []K) {
	for _, k := range keys {
		if !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	return list
}

// begins reports whether an event is known to be the first that touches a key.
func (f *folding[K, R]) begins(k K, i int, e *domain.Recorded) (first bool, err error) {
	defer catch(i, e, &err)
	return f.Begins != nil && f.Begins(k, *e), nil
}

// evolve brings a row from before an event to after it, and reports whether it is there still. The row is not there yet when
// fresh is set.
func (f *folding[K, R]) evolve(row *R, fresh bool, k *K, i int, e *domain.Recorded) (there bool, err error) {
	defer catch(i, e, &err)
	if fresh {
		f.setKey(row, k)
	}
	*row = f.Evolve(*row, *k, *e)
	f.setKey(row, k)
	if f.round != nil {
		f.round(reflect.ValueOf(row).Elem())
	}
	return f.Gone == nil || !f.Gone(*row), nil
}

func (f *folding[K, R]) setKey(row *R, k *K) {
	f.key.toRow(reflect.ValueOf(k).Elem(), reflect.ValueOf(row).Elem())
}

// catch turns a panic of a projection's code into an EventError.
func catch(i int, e *domain.Recorded, err *error) {
	if p := recover(); p != nil {
		cause, ok := p.(error)
		if !ok {
			cause = fmt.Errorf("%v", p)
		}
		*err = &EventError{Index: i, Event: *e, Err: fmt.Errorf("panic: %w", cause), Stack: string(debug.Stack())}
	}
}

// foldEngine keeps rows between batches. While complete is set the cache holds every row of the table, so a key that it
// lacks has no row.
type foldEngine[K comparable, R any] struct {
	rules    *folding[K, R]
	cache    *simplelru.LRU[K, *R] // nil: the key is known to have no row
	complete bool
	step     foldStep[K, R] // of which there is one at a time; its room is used again
	buffer   []byte         // room for Writes.Copy
}

func newFoldEngine[K comparable, R any](rules *folding[K, R], cacheRows int) *foldEngine[K, R] {
	e := &foldEngine[K, R]{rules: rules}
	// NewLRU fails for sizes below 1 only.
	e.cache, _ = simplelru.NewLRU(max(cacheRows, 1), func(K, *R) { e.complete = false })
	return e
}

func (e *foldEngine[K, R]) Reset(empty bool) {
	e.cache.Purge()
	e.complete = empty
}

func (e *foldEngine[K, R]) Begin(events []domain.Recorded) (Step, error) {
	last := &e.step
	last.release()
	e.step = foldStep[K, R]{
		engine: e, index: make(map[K]int32, len(last.slots)),
		slots: last.slots[:0], touches: last.touches[:0], missing: last.missing[:0],
	}
	s := &e.step
	for i := range events {
		event := &events[i]
		if !e.rules.compiled.Matches(event.Event.EventType()) {
			continue
		}
		s.events++
		keys, err := e.rules.keys(i, event)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			at, seen := s.index[k]
			if !seen {
				if at, err = s.take(k, i, event); err != nil {
					return nil, err
				}
			}
			s.touches = append(s.touches, touch{int32(i), at, event})
		}
	}
	return s, nil
}

// slot is one key of a step.
type slot[K comparable, R any] struct {
	key    K
	row    *R   // nil when there is none
	stored bool // the table has a row before the step
	own    bool // the row belongs to the step: nobody else knows it
}

// touch is one event at one key.
type touch struct {
	index int32 // of the event
	at    int32 // the slot
	event *domain.Recorded
}

type foldStep[K comparable, R any] struct {
	engine  *foldEngine[K, R]
	index   map[K]int32
	slots   []slot[K, R] // as first touched, so that what is written does not depend on a map's order
	missing []int32      // slots
	touches []touch
	events  int
	loading *R
}

// take begins a slot for a key that an event is the first of the step to touch.
func (s *foldStep[K, R]) take(k K, i int, e *domain.Recorded) (at int32, err error) {
	at = int32(len(s.slots))
	row, known := s.engine.cache.Get(k)
	s.slots = append(s.slots, slot[K, R]{key: k, row: row, stored: row != nil})
	s.index[k] = at
	if !known && !s.engine.complete {
		begins, err := s.engine.rules.begins(k, i, e)
		if err != nil {
			return 0, err
		}
		if !begins {
			s.missing = append(s.missing, at)
		}
	}
	return at, nil
}

// release lets go of events and rows.
func (s *foldStep[K, R]) release() {
	clear(s.slots)
	clear(s.touches)
}

func (s *foldStep[K, R]) Events() int { return s.events }

func (s *foldStep[K, R]) Missing() []any {
	if len(s.missing) == 0 {
		return nil
	}
	return s.keys(s.missing)
}

// keys returns the key columns of slots as arrays.
func (s *foldStep[K, R]) keys(slots []int32) []any {
	return s.engine.rules.key.arrays(len(slots), func(i int) reflect.Value { return reflect.ValueOf(&s.slots[slots[i]].key).Elem() })
}

func (s *foldStep[K, R]) Target() []any {
	s.loading = new(R)
	return targets(s.engine.rules.compiled.Table, reflect.ValueOf(s.loading).Elem())
}

func (s *foldStep[K, R]) Loaded() {
	row := reflect.ValueOf(s.loading).Elem()
	if s.engine.rules.round != nil {
		s.engine.rules.round(row)
	}
	var k K
	s.engine.rules.key.fromRow(row, reflect.ValueOf(&k).Elem())
	if i, wanted := s.index[k]; wanted {
		at := &s.slots[i]
		at.row, at.stored, at.own = s.loading, true, true
	}
}

func (s *foldStep[K, R]) Evaluate(bulk int) (Writes, error) {
	rules := s.engine.rules
	for _, t := range s.touches {
		at := &s.slots[t.at]
		fresh := at.row == nil
		if !at.own || fresh {
			row := new(R)
			if !fresh {
				*row = *at.row
			}
			at.row, at.own = row, true
		}
		there, err := rules.evolve(at.row, fresh, &at.key, int(t.index), t.event)
		if err != nil {
			return Writes{}, err
		}
		if !there {
			at.row = nil
		}
	}
	var fresh, kept []reflect.Value
	var gone []int32
	for i := range s.slots {
		at := &s.slots[i]
		switch {
		case at.row != nil && at.stored:
			kept = append(kept, reflect.ValueOf(at.row).Elem())
		case at.row != nil:
			fresh = append(fresh, reflect.ValueOf(at.row).Elem())
		case at.stored:
			gone = append(gone, int32(i))
		}
	}
	w := Writes{Deletes: len(gone)}
	if gone != nil {
		w.Delete = s.keys(gone)
	}
	return w, w.store(rules.compiled.Table, fresh, kept, bulk, &s.engine.buffer)
}

func (s *foldStep[K, R]) Committed() {
	for i := range s.slots {
		s.engine.cache.Add(s.slots[i].key, s.slots[i].row)
	}
	s.release()
}

// appending is the pure part of an Append.
type appending[R any] struct {
	Append[R]
	compiled *Compiled
	round    func(reflect.Value)
}

func (a *appending[R]) rows(i int, e *domain.Recorded) (rows []R, err error) {
	defer catch(i, e, &err)
	rows = a.Rows(*e)
	if a.round != nil {
		for j := range rows {
			a.round(reflect.ValueOf(&rows[j]).Elem())
		}
	}
	return rows, nil
}

type appendEngine[R any] struct {
	rules  *appending[R]
	buffer []byte // room for Writes.Copy
}

func (e *appendEngine[R]) Reset(bool) {}

func (e *appendEngine[R]) Begin(events []domain.Recorded) (Step, error) {
	s := &appendStep[R]{engine: e}
	for i := range events {
		event := &events[i]
		if !e.rules.compiled.Matches(event.Event.EventType()) {
			continue
		}
		s.events = append(s.events, event)
		rows, err := e.rules.rows(i, event)
		if err != nil {
			return nil, err
		}
		for j := range rows {
			s.rows = append(s.rows, reflect.ValueOf(&rows[j]).Elem())
		}
	}
	return s, nil
}

type appendStep[R any] struct {
	engine *appendEngine[R]
	rows   []reflect.Value
	events []*domain.Recorded // that matter
}

func (s *appendStep[R]) Events() int    { return len(s.events) }
func (s *appendStep[R]) Missing() []any { return nil }
func (s *appendStep[R]) Target() []any  { return nil }
func (s *appendStep[R]) Loaded()        {}
func (s *appendStep[R]) Committed()     {}

func (s *appendStep[R]) Evaluate(bulk int) (w Writes, err error) {
	return w, w.store(s.engine.rules.compiled.Table, s.rows, nil, bulk, &s.engine.buffer)
}

// store renders rows, those that the table lacks apart from those that it has.
func (w *Writes) store(t *Table, fresh, kept []reflect.Value, bulk int, buffer *[]byte) (err error) {
	w.Fresh = len(fresh)
	if bulk > 0 && len(fresh) >= bulk {
		if *buffer, err = copyRows((*buffer)[:0], t, fresh); err == nil {
			w.Copy, w.Copied, fresh = *buffer, len(fresh), nil
		}
	}
	rows := append(kept, fresh...)
	w.Upserts = len(rows)
	w.Upsert, err = upserts(t, rows)
	return err
}

func upserts(t *Table, rows []reflect.Value) ([]any, error) {
	if len(rows) == 0 {
		return nil, nil
	}
	arrays := make([]any, len(t.Columns))
	for i, c := range t.Columns {
		list, err := c.values(rows)
		if err != nil {
			return nil, err
		}
		arrays[i] = list
	}
	return arrays, nil
}

func targets(t *Table, row reflect.Value) []any {
	list := make([]any, len(t.Columns))
	for i, c := range t.Columns {
		list[i] = c.target(row)
	}
	return list
}
