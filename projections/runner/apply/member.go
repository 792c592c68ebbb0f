package apply

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// Member is one build at work. It belongs to one goroutine at a time: its lane's handler, or the term between rounds.
type Member struct {
	*projection.Compiled
	build.Checkpoint
	Distrusted bool // its rows may lack events: it stays halted, whoever takes it over
	CaughtUp   bool // has reached the end of the log in this term

	Sealed *atomic.Pointer[codec.Raw] // holds the event at which it is halted because it cannot be opened; nil otherwise

	engine  projection.Engine
	parked  map[string]bool   // streams
	size                      // of its table
	scratch []domain.Recorded // room for a plan's events

	verifyKeys int
	sample     projection.Sample // of a build that is to be verified; nil otherwise
	sampled    domain.Position   // everything up to here is in the sample
}

// NewMember makes a member of a build, which is to be loaded. It keeps up to cacheRows rows between batches, and a sample of up
// to verifyKeys keys of a build that is to be verified.
func NewMember(compiled *projection.Compiled, c build.Checkpoint, cacheRows, verifyKeys int) *Member {
	return &Member{Compiled: compiled, Checkpoint: c, engine: compiled.NewEngine(cacheRows), verifyKeys: verifyKeys, Sealed: new(atomic.Pointer[codec.Raw])}
}

// Measure asks how many rows the table has.
func (m *Member) Measure(ctx context.Context, tx pgx.Tx) (err error) {
	m.size, err = sizeOf(ctx, tx, m.Table)
	return err
}

// Counted notes that the rows of the table have been counted.
func (m *Member) Counted() { m.counted = m.rows }

// Label names the member's build for messages: "customer v3 build 2".
func (m *Member) Label() string { return m.Key.String() }

// Load takes the stored state of a member and forgets rows.
func (m *Member) Load(c build.Checkpoint, parked map[string]bool) {
	m.Checkpoint = c
	m.parked = parked
	if m.parked == nil {
		m.parked = map[string]bool{}
	}
	m.engine.Reset(c.Event.Position.IsZero())
	m.Sync()
}

// rejects reports whether poison ends the member's build, with why.
func (m *Member) rejects(item *bus.Item, why cause) string {
	if !m.Strict() {
		return ""
	}
	return fmt.Sprintf("event %s (%s) at position %s cannot be applied: %s; mend the projection, or let the build go past it with `rapport projections rebuild %s --park`",
		item.Raw.ID, item.Raw.Type, item.Raw.Position, follow.Printable(why.message), m.Name)
}
