package projection

import (
	"bytes"
	"hash/maphash"
	"maps"
	"reflect"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Sample evaluates some keys of a projection in memory, beside the table that is being built, and finds out whether the
// table says the same. The keys are chosen by a hash, before anything is known of them, so that a sample that has begun at
// the beginning of the log knows all events of each of its keys. It is not safe for concurrent use.
type Sample interface {
	// Follow takes the next events of the log from a step of the projection that is evaluated and not yet over. It is cheaper
	// than Apply: what the events touch is known, and most of it was not chosen. Apply takes the next event of the log by
	// itself. Both return an *EventError when the projection's code fails.
	Follow(Step) error
	Apply(domain.Recorded) error
	// Keys returns the parameters of Table.SelectSQL for the keys chosen, or nil when there are none. Target and Loaded take
	// the rows as those of Step do; each call of Keys begins anew.
	Keys() []any
	Target() []any
	Loaded()
	// Difference says how a row loaded differs from the one in memory, by its key, or returns "".
	Difference() (string, error)
}

// admission chooses by hash: whatever lies below a limit, which is halved whenever too much has been chosen.
type admission struct {
	seed  maphash.Seed
	limit uint64
}

func newAdmission() admission { return admission{maphash.MakeSeed(), ^uint64(0)} }

func admits[K comparable](a admission, k K) bool { return maphash.Comparable(a.seed, k) <= a.limit }

// loading takes rows from the table and holds them by the text of their key.
type loading struct {
	table   *Table
	row     reflect.Type
	loading reflect.Value
	rows    map[string]reflect.Value
}

func (l *loading) begin() { l.rows = map[string]reflect.Value{} }

func (l *loading) Target() []any {
	l.loading = reflect.New(l.row).Elem()
	return targets(l.table, l.loading)
}

func (l *loading) Loaded() { l.rows[keyText(l.table, l.loading)] = l.loading }

// differs compares one key's row in memory with the one loaded; both are rendered as the table receives them. An invalid
// value stands for no row.
func (l *loading) differs(key string, want reflect.Value) (bool, error) {
	got := l.rows[key]
	if !got.IsValid() || !want.IsValid() {
		return got.IsValid() != want.IsValid(), nil
	}
	a, err := copyRows(nil, l.table, []reflect.Value{want})
	if err != nil {
		return false, err
	}
	b, err := copyRows(nil, l.table, []reflect.Value{got})
	return !bytes.Equal(a, b), err
}

func printableKey(key string) string {
	return string(bytes.ReplaceAll(bytes.TrimSuffix([]byte(key), []byte{0}), []byte{0}, []byte("/")))
}

// foldSample folds the rows of the keys admitted.
type foldSample[K comparable, R any] struct {
	loading
	rules *folding[K, R]
	admit admission
	most  int
	rows  map[K]*R // of each key that was touched; nil when it has no row
}

func newFoldSample[K comparable, R any](rules *folding[K, R], most int) *foldSample[K, R] {
	return &foldSample[K, R]{
		loading: loading{table: rules.compiled.Table, row: reflect.TypeFor[R]()},
		rules:   rules, admit: newAdmission(), most: max(most, 1), rows: map[K]*R{},
	}
}

func (s *foldSample[K, R]) Follow(step Step) error {
	of := step.(*foldStep[K, R]) // of the same declaration
	chosen := make([]bool, len(of.slots))
	for i := range of.slots {
		chosen[i] = admits(s.admit, of.slots[i].key)
	}
	for _, t := range of.touches {
		if !chosen[t.at] {
			continue
		}
		if err := s.touch(&of.slots[t.at].key, int(t.index), t.event); err != nil {
			return err
		}
	}
	s.thin()
	return nil
}

func (s *foldSample[K, R]) Apply(e domain.Recorded) error {
	if !s.rules.compiled.Matches(e.Type()) {
		return nil
	}
	keys, err := s.rules.keys(0, &e)
	if err != nil {
		return err
	}
	for i := range keys {
		if !admits(s.admit, keys[i]) {
			continue
		}
		if err := s.touch(&keys[i], 0, &e); err != nil {
			return err
		}
	}
	s.thin()
	return nil
}

// touch folds an event into the row of a key.
func (s *foldSample[K, R]) touch(k *K, i int, e *domain.Recorded) error {
	row := s.rows[*k]
	fresh := row == nil
	if fresh {
		row = new(R)
	}
	there, err := s.rules.evolve(row, fresh, k, i, e)
	if !there {
		row = nil
	}
	s.rows[*k] = row
	return err
}

// thin lets go of keys while there are too many.
func (s *foldSample[K, R]) thin() {
	for len(s.rows) > s.most && s.admit.limit > 0 {
		s.admit.limit /= 2
		maps.DeleteFunc(s.rows, func(k K, _ *R) bool { return !admits(s.admit, k) })
	}
}

func (s *foldSample[K, R]) Keys() []any {
	s.begin()
	if len(s.rows) == 0 {
		return nil
	}
	keys := slices.Collect(maps.Keys(s.rows))
	return s.rules.key.arrays(len(keys), func(i int) reflect.Value { return reflect.ValueOf(&keys[i]).Elem() })
}

func (s *foldSample[K, R]) Difference() (string, error) {
	for k, row := range s.rows {
		var key R // has the key columns alone
		s.rules.setKey(&key, &k)
		text := keyText(s.table, reflect.ValueOf(&key).Elem())
		want := reflect.ValueOf(row).Elem() // invalid for nil
		if different, err := s.differs(text, want); err != nil || different {
			return printableKey(text), err
		}
	}
	return "", nil
}

// appendSample keeps the rows of the streams admitted: all rows of a key come from one stream.
type appendSample[R any] struct {
	loading
	rules *appending[R]
	admit admission
	most  int
	count int
	rows  map[domain.StreamID][]R
}

func newAppendSample[R any](rules *appending[R], most int) *appendSample[R] {
	return &appendSample[R]{
		loading: loading{table: rules.compiled.Table, row: reflect.TypeFor[R]()},
		rules:   rules, admit: newAdmission(), most: max(most, 1), rows: map[domain.StreamID][]R{},
	}
}

func (s *appendSample[R]) Follow(step Step) error {
	for _, e := range step.(*appendStep[R]).events { // of the same declaration
		if err := s.take(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *appendSample[R]) Apply(e domain.Recorded) error {
	if !s.rules.compiled.Matches(e.Type()) {
		return nil
	}
	return s.take(&e)
}

func (s *appendSample[R]) take(e *domain.Recorded) error {
	if !admits(s.admit, e.Stream) {
		return nil
	}
	rows, err := s.rules.rows(0, e)
	if err != nil || len(rows) == 0 {
		return err
	}
	s.rows[e.Stream] = append(s.rows[e.Stream], rows...)
	s.count += len(rows)
	for s.count > s.most && s.admit.limit > 0 {
		s.admit.limit /= 2
		for stream, rows := range s.rows {
			if !admits(s.admit, stream) {
				s.count -= len(rows)
				delete(s.rows, stream)
			}
		}
	}
	return nil
}

func (s *appendSample[R]) Keys() []any {
	s.begin()
	var rows []reflect.Value
	for _, list := range s.rows {
		for i := range list {
			rows = append(rows, reflect.ValueOf(&list[i]).Elem())
		}
	}
	if len(rows) == 0 {
		return nil
	}
	arrays := make([]any, s.table.keys)
	for i, c := range s.table.Key() {
		arrays[i], _ = c.values(rows) // keys are strings, integers, booleans and times, which always convert
	}
	return arrays
}

func (s *appendSample[R]) Difference() (string, error) {
	for _, list := range s.rows {
		seen := map[string]bool{} // of a key that comes twice the first row stays
		for i := range list {
			row := reflect.ValueOf(&list[i]).Elem()
			key := keyText(s.table, row)
			if seen[key] {
				continue
			}
			seen[key] = true
			if different, err := s.differs(key, row); err != nil || different {
				return printableKey(key), err
			}
		}
	}
	return "", nil
}
