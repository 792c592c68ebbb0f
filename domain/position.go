package domain

import (
	"cmp"
	"math"
	"strconv"
	"strings"
)

// Position is the place of an event in the log of all streams. Callers compare and print it, nothing else. The zero
// value stands before every event. It is never compared with a revision.
type Position struct{ Commit, Prepare uint64 }

// Compare orders positions along the log: negative when p stands before q.
func (p Position) Compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Commit, q.Commit), cmp.Compare(p.Prepare, q.Prepare))
}

// Before reports whether p stands before q in the log.
func (p Position) Before(q Position) bool { return p.Compare(q) < 0 }

// IsZero reports whether p stands before every event.
func (p Position) IsZero() bool { return p == Position{} }

// Mark names an event by its place in the log and its id. A position alone does not name one: a log that was restored from
// an older copy and has grown since holds other events at the positions that it had before. The zero value stands before
// every event. A mark without an id is one of a checkpoint that was stored before there were marks.
type Mark struct {
	Position Position
	ID       string // UUID of the event
}

// Order returns the single number that read models store to sort rows along the log: the prepare position, which is
// unique per event and increases along the log, because writes over gRPC know no interleaved transactions.
func (p Position) Order() int64 { return int64(p.Prepare) }

// String renders p for receipts, headers and cursors; ParsePosition reads it back.
func (p Position) String() string {
	b, _ := p.AppendText(make([]byte, 0, 41)) // two numbers of up to 20 digits
	return string(b)
}

// ParsePosition reads what String wrote. It returns an *InvalidError for anything else.
func ParsePosition(s string) (Position, error) {
	commit, prepare, two := strings.Cut(s, "-")
	if !two {
		prepare = commit
	}
	c, err1 := strconv.ParseUint(commit, 10, 64)
	p, err2 := strconv.ParseUint(prepare, 10, 64)
	if err1 != nil || err2 != nil || p > c || c > math.MaxInt64 || commit[0] == '+' || prepare[0] == '+' {
		return Position{}, Invalid("", "position \"{value}\" is not a log position", s)
	}
	return Position{Commit: c, Prepare: p}, nil
}

// AppendText implements encoding.TextAppender.
func (p Position) AppendText(b []byte) ([]byte, error) {
	b = strconv.AppendUint(b, p.Commit, 10)
	if p.Commit != p.Prepare {
		b = strconv.AppendUint(append(b, '-'), p.Prepare, 10)
	}
	return b, nil
}

// MarshalText implements encoding.TextMarshaler.
func (p Position) MarshalText() ([]byte, error) { return p.AppendText(nil) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Position) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePosition(string(b))
	return err
}
