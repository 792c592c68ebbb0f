// Package oracle says what the read models must hold, by another way than the projections: one plain fold of the log into
// maps, event by event, read off the events' JSON. It shares nothing with the projections but the events, knows no batch,
// cache, key type or row type, and is meant to be checked by reading it. Tests and verifications hold tables against it.
//
// The oracle keeps what is intricate: rows that gather what several streams say, sums, periods that one event ends and
// another begins, and states that later events judge. A column that is copied from the event is not folded a second time: the
// files of projections/testdata/rows show it, and the properties of every declaration hold for it. So the oracle knows some
// tables, and of some of them only columns that are reckoned.
package oracle

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

// World is a fold of the log. The zero value is not ready: see New. It is not safe for concurrent use.
type World struct {
	tables map[string]map[string]row
	at     domain.Position
}

// row is one row by column. A column that is absent holds nothing: no text, no number, null. Values are what JSON makes of
// them, and times.
type row map[string]any

// object is the payload of an event, or a part of it, as JSON.
type object = map[string]any

// New returns the fold of no events: every table is there and empty.
func New() *World {
	w := &World{tables: map[string]map[string]row{}}
	for _, name := range Tables {
		w.tables[name] = map[string]row{}
	}
	return w
}

// Tables are the read models that the oracle knows.
var Tables = []string{
	"customer_relation", "commitment", "customer_timeline", "contact_link",
	"opportunity", "opportunity_stage_visit",
	"sales_order", "sales_order_line", "customer_sales", "product_sales",
	"log_time",
}

// Fold folds events, in log order, into a new World.
func Fold(events []domain.Recorded) (*World, error) {
	w := New()
	for _, e := range events {
		if err := w.Apply(e); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// Len returns the number of rows of a table.
func (w *World) Len(table string) int { return len(w.tables[table]) }

// Apply folds the next event of the log. It returns an error for an event out of order, and for one that does not become
// JSON.
func (w *World) Apply(e domain.Recorded) error {
	if !w.at.Before(e.Position) {
		return fmt.Errorf("oracle: %s comes after %s", e.Position, w.at)
	}
	w.at = e.Position
	text, err := json.Marshal(e.Event)
	if err != nil {
		return fmt.Errorf("oracle: %s: %w", e.Type(), err)
	}
	var v object
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("oracle: %s: %w", e.Type(), err)
	}
	kind, what, _ := strings.Cut(e.Type(), ".")
	x := &entry{w: w, Recorded: e, v: v, what: what}
	x.time()
	switch kind {
	case "customer":
		x.customer()
	case "contact":
		x.contact()
	case "opportunity":
		x.opportunity()
	case "order":
		x.order()
	}
	x.timeline()
	return nil
}

// entry is one event on its way into the tables.
type entry struct {
	w *World
	domain.Recorded
	v    object // the payload
	what string // the type after the aggregate's name
}

// row returns the row with a key, column by column beside the tenant, and makes it when there is none. The event is the last
// that changed it.
func (x *entry) row(table string, key ...any) row {
	columns := row{"tenant": string(x.Tenant)}
	id := string(x.Tenant)
	for i := 0; i < len(key); i += 2 {
		columns[key[i].(string)] = key[i+1]
		id += fmt.Sprint("|", key[i+1])
	}
	r := x.w.tables[table][id]
	if r == nil {
		r = columns
		x.w.tables[table][id] = r
	}
	r["position"] = x.Position.Order()
	return r
}

// record is the row of the aggregate itself.
func (x *entry) record(table string) row {
	r := x.row(table, "id", x.id())
	r["revision"] = x.Revision
	return r
}

func (x *entry) id() string { return string(x.Stream.ID) }

// time counts the event in the second in which it was recorded.
func (x *entry) time() {
	r := x.row("log_time", "second", x.RecordedAt.Unix())
	if r["events"] == nil {
		r["events"], r["first_recorded_at"] = 0, x.RecordedAt
		r["first_position"], r["first_commit"] = x.Position.Prepare, x.Position.Commit
	}
	r["events"] = r["events"].(int) + 1
}

func (x *entry) timeline() {
	for _, subject := range x.Subjects {
		r := x.row("customer_timeline", "customer_id", string(subject), "occurred_at", x.OccurredAt, "position", x.Position.Order())
		r["recorded_at"], r["revision"] = x.RecordedAt, x.Revision
		r["actor"], r["actor_kind"], r["on_behalf_of"] = x.Actor.ID, string(x.Actor.Kind), x.Actor.OnBehalfOf
		r["event_type"], r["event_id"], r["correlation_id"] = x.Type(), x.ID, x.CorrelationID
		r["aggregate"], r["aggregate_id"] = x.Stream.Aggregate, x.id()
	}
}

// copy takes columns from members of the payload with the same name in lowerCamelCase.
func (r row) copy(from object, columns ...string) {
	for _, c := range columns {
		r[c] = from[camel(c)]
	}
}

// money splits an amount of money, which may be nothing, into two columns.
func (r row) money(amount, currency string, from any) {
	m, _ := from.(object)
	r[amount], r[currency] = m["amount"], m["currency"]
}

// add adds to a column that counts.
func (r row) add(column string, n int) {
	before, _ := r[column].(int)
	r[column] = before + n
}

// sum adds a number, sign times, to a column that sums.
func (r row) sum(column string, number any, sign int64) {
	r[column] = number0(r[column]).Add(number0(number).Mul(decimal.NewFromInt(sign)))
}

// span widens the time from first to last by a time.
func (r row) span(first, last string, at time.Time) {
	if t, ok := r[first].(time.Time); !ok || at.Before(t) {
		r[first] = at
	}
	if t, ok := r[last].(time.Time); !ok || at.After(t) {
		r[last] = at
	}
}

// number0 reads a number; nothing is 0.
func number0(v any) decimal.Decimal {
	switch v := v.(type) {
	case decimal.Decimal:
		return v
	case string:
		d, err := decimal.NewFromString(v)
		if err == nil {
			return d
		}
	}
	return decimal.Zero
}

func text(v any) string { s, _ := v.(string); return s }

func objects(v any) (list []object) {
	all, _ := v.([]any)
	for _, one := range all {
		list = append(list, one.(object))
	}
	return list
}

// camel turns legal_name into legalName.
func camel(column string) string {
	var b strings.Builder
	upper := false
	for _, c := range column {
		switch {
		case c == '_':
			upper = true
		case upper:
			b.WriteRune(unicode.ToUpper(c))
			upper = false
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}
