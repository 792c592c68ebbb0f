package importer

import (
	"cmp"
	"encoding/csv"
	"io"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rapport-crm/rapport/domain"
)

// rejects writes rows that were not imported as CSV: file, row number, command, reason, and the row as JSON, or as it stands
// in the file when it cannot be read. The caller serialises the calls.
type rejects struct {
	out    *csv.Writer
	headed bool
}

func newRejects(w io.Writer) *rejects {
	if w == nil {
		w = io.Discard
	}
	return &rejects{out: csv.NewWriter(w)}
}

func (r *rejects) write(s *source, rows []record, command string, reason error) error {
	if !r.headed {
		r.headed = true
		if err := r.out.Write([]string{"file", "row", "command", "reason", "content"}); err != nil {
			return err
		}
	}
	for _, row := range rows {
		content := []byte(row.raw)
		if row.cells != nil {
			var err error
			// A cell may be no text in the declared encoding, which is why it is here.
			if content, err = json.Marshal(row.cells, json.Deterministic(true), jsontext.AllowInvalidUTF8(true)); err != nil {
				return err
			}
		}
		if err := r.out.Write([]string{s.name, strconv.Itoa(row.number), command, domain.Shown(reason), string(content)}); err != nil {
			return err
		}
	}
	return r.out.Error()
}

func (r *rejects) flush() error {
	r.out.Flush()
	return r.out.Error()
}

// reports lists the counted oddities, the mapping's order first, then by how often.
func (r *run) reports() []Reported {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := make([]reportKey, 0, len(r.reported))
	for k := range r.reported {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b reportKey) int {
		return cmp.Or(a.rule-b.rule, cmp.Compare(r.reported[b], r.reported[a]), cmp.Compare(a.value, b.value))
	})
	out := make([]Reported, len(keys))
	for i, k := range keys {
		out[i] = Reported{File: r.counts.File, Message: r.in.reports[k.rule].message, Value: k.value, Units: r.reported[k]}
	}
	return out
}
