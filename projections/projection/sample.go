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
	// Apply takes the next event of the log. It returns an *EventError when the projection's code fails.
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

// foldSample is a FoldMemory of the keys admitted.
type foldSample[K comparable, R any] struct {
	loading
	memory FoldMemory[K, R]
	admit  admission
	most   int
	keys   map[K]bool
}

func newFoldSample[K comparable, R any](rules folding[K, R], most int) *foldSample[K, R] {
	s := &foldSample[K, R]{
		loading: loading{table: rules.compiled.Table, row: reflect.TypeFor[R]()},
		memory:  FoldMemory[K, R]{rules: rules, rows: map[K]R{}},
		admit:   newAdmission(), most: max(most, 1), keys: map[K]bool{},
	}
	s.memory.only = func(k K) bool { return admits(s.admit, k) }
	s.memory.touched = func(k K) { s.keys[k] = true }
	return s
}

func (s *foldSample[K, R]) Apply(e domain.Recorded) error {
	if err := s.memory.Apply(e); err != nil {
		return err
	}
	for len(s.keys) > s.most && s.admit.limit > 0 {
		s.admit.limit /= 2
		for k := range s.keys {
			if !s.memory.only(k) {
				delete(s.keys, k)
				delete(s.memory.rows, k)
			}
		}
	}
	return nil
}

func (s *foldSample[K, R]) Keys() []any {
	s.begin()
	if len(s.keys) == 0 {
		return nil
	}
	keys := slices.Collect(maps.Keys(s.keys))
	return s.memory.rules.key.arrays(len(keys), func(i int) reflect.Value { return reflect.ValueOf(&keys[i]).Elem() })
}

func (s *foldSample[K, R]) Difference() (string, error) {
	for k := range s.keys {
		var key R // has the key columns alone
		s.memory.rules.setKey(&key, &k)
		text := keyText(s.table, reflect.ValueOf(&key).Elem())
		want := reflect.Value{}
		if row, ok := s.memory.rows[k]; ok {
			want = reflect.ValueOf(&row).Elem()
		}
		if different, err := s.differs(text, want); err != nil || different {
			return printableKey(text), err
		}
	}
	return "", nil
}

// appendSample keeps the rows of the streams admitted: all rows of a key come from one stream.
type appendSample[R any] struct {
	loading
	rules appending[R]
	admit admission
	most  int
	count int
	rows  map[domain.StreamID][]R
}

func newAppendSample[R any](rules appending[R], most int) *appendSample[R] {
	return &appendSample[R]{
		loading: loading{table: rules.compiled.Table, row: reflect.TypeFor[R]()},
		rules:   rules, admit: newAdmission(), most: max(most, 1), rows: map[domain.StreamID][]R{},
	}
}

func (s *appendSample[R]) Apply(e domain.Recorded) error {
	if !s.rules.compiled.Matches(e.Type()) || !admits(s.admit, e.Stream) {
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
		arrays[i], _ = c.values(rows) // keys are strings, integers and booleans, which always convert
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
