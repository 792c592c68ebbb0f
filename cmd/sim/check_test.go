package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/party/interaction"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/order"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/domain/sales/product"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/oracle"
	"github.com/rapport-crm/rapport/projections/projection"
)

// folder is an aggregate's fold with its state type erased.
type folder struct {
	evolve func(state any, e domain.Event) any
	zero   any
	keys   func(state any) []domain.Key
}

func erase[S any](a domain.Aggregate[S]) folder {
	f := folder{
		zero:   *new(S),
		evolve: func(s any, e domain.Event) any { return a.Decider.Evolve(s.(S), e) },
		keys:   func(any) []domain.Key { return nil },
	}
	if a.Keys != nil {
		f.keys = func(s any) []domain.Key { return a.Keys(s.(S)) }
	}
	return f
}

var folders = map[string]folder{
	customer.Aggregate.Name:    erase(customer.Aggregate),
	contact.Aggregate.Name:     erase(contact.Aggregate),
	interaction.Aggregate.Name: erase(interaction.Aggregate),
	product.Aggregate.Name:     erase(product.Aggregate),
	pipeline.Aggregate.Name:    erase(pipeline.Aggregate),
	opportunity.Aggregate.Name: erase(opportunity.Aggregate),
	order.Aggregate.Name:       erase(order.Aggregate),
}

// fold folds the events of one stream from nothing.
func (f folder) fold(events []domain.Recorded) any {
	state := f.zero
	for _, e := range events {
		if !strings.HasPrefix(e.Type(), domain.ReservationName+".") {
			state = f.evolve(state, e.Event)
		}
	}
	return state
}

// check holds everything that must be true when a run is over.
func (s *simulation) check() {
	events := s.decoded()
	streams := map[domain.StreamID][]domain.Recorded{}
	for _, e := range events {
		streams[e.Stream] = append(streams[e.Stream], e)
	}
	s.checkLog(events)
	s.checkAnswers(events)
	s.checkHistory(streams)
	s.checkReservations(events)
	s.checkPatience()
	s.checkProbes(streams)
	s.checkStates(streams)
	s.checkRules(events, streams)
	s.checkReadModels(events)
}

func (s *simulation) fail(format string, args ...any) {
	s.t.Errorf("seed %d: "+format, append([]any{s.seed}, args...)...)
}

// decoded returns the whole log.
func (s *simulation) decoded() []domain.Recorded {
	events := make([]domain.Recorded, len(s.log.events))
	for i, raw := range s.log.events {
		e, err := s.registry.Decode(raw)
		if err != nil {
			s.fail("%s of %s does not decode: %v", raw.Type, raw.Stream, err)
		}
		events[i] = e
	}
	return events
}

// checkLog is D2: ids are unique, revisions have no hole, positions increase.
func (s *simulation) checkLog(events []domain.Recorded) {
	ids, next := map[string]bool{}, map[domain.StreamID]uint64{}
	last := domain.Position{}
	for _, e := range events {
		if ids[e.ID] {
			s.fail("event %s is there twice", e.ID)
		}
		if e.Revision != next[e.Stream] {
			s.fail("%s: revision %d, want %d", e.Stream, e.Revision, next[e.Stream])
		}
		if !last.Before(e.Position) {
			s.fail("%s follows %s", e.Position, last)
		}
		ids[e.ID], last = true, e.Position
		next[e.Stream]++
	}
}

// checkAnswers is D1 and D3: what was acknowledged is there, at the position told; what was refused, and never in doubt,
// left nothing.
func (s *simulation) checkAnswers(events []domain.Recorded) {
	at := map[string]domain.Recorded{}
	of := map[string][]domain.Recorded{} // by command
	for _, e := range events {
		at[e.ID] = e
		if !strings.HasPrefix(e.Type(), domain.ReservationName+".") {
			of[e.CommandID] = append(of[e.CommandID], e)
		}
	}
	doubtful := map[string]bool{}
	accepted := map[string]bool{}
	for _, r := range s.history {
		doubtful[r.id] = doubtful[r.id] || r.unknown()
		accepted[r.id] = accepted[r.id] || r.err == nil && !r.lost && !r.receipt.Unchanged && !r.asked.DryRun
	}
	for _, r := range s.history {
		if r.lost || r.err != nil || r.asked.DryRun {
			continue
		}
		for i, id := range r.receipt.EventIDs {
			e, ok := at[id]
			switch {
			case !ok:
				s.fail("%s was acknowledged, and its event %s is not in the log", r, id)
			case i == len(r.receipt.EventIDs)-1 && (e.Position != r.receipt.Position || e.Revision != r.receipt.Revision):
				s.fail("%s was told position %s and revision %d; its event stands at %s and %d", r, r.receipt.Position, r.receipt.Revision, e.Position, e.Revision)
			}
		}
	}
	for _, r := range s.history {
		if !doubtful[r.id] && !accepted[r.id] && len(of[r.id]) > 0 {
			s.fail("%s was refused or changed nothing, and left %d events: %s", r, len(of[r.id]), r.outcome())
		}
	}
}

// reservationOf names the reservation of a value, by the rule that the bus must keep: stored streams depend on it.
func reservationOf(tenant domain.Tenant, aggregate string, k domain.Key) domain.ID {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s|%s|%s|%s", tenant, aggregate, k.Kind, k.Value)
	id := uuid.UUID(mac.Sum(nil)[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return domain.ID(id.String())
}

// checkReservations is the uniqueness part of D11, at every moment: nobody else holds a value, and whoever holds it is the
// last who claimed it.
func (s *simulation) checkReservations(events []domain.Recorded) {
	claimant := map[domain.StreamID]domain.StreamID{} // by reservation
	states := map[domain.StreamID]any{}
	holder := map[string]domain.StreamID{}     // by value
	held := map[domain.StreamID][]domain.Key{} // by holder
	reserved := map[domain.StreamID][]string{} // values by reservation, as seen
	valueOf := func(id domain.StreamID, k domain.Key) string { return id.Aggregate + " " + k.Kind + " " + k.Value }
	for _, e := range events {
		switch ev := e.Event.(type) {
		case domain.ReservationClaimed:
			claimant[e.Stream] = domain.StreamID{Tenant: e.Tenant, Aggregate: ev.Aggregate, ID: ev.ID}
		case domain.ReservationReleased:
			delete(claimant, e.Stream)
		case domain.ReservationLapsed:
			continue
		default:
			f := folders[e.Stream.Aggregate]
			if states[e.Stream] == nil {
				states[e.Stream] = f.zero
			}
			states[e.Stream] = f.evolve(states[e.Stream], e.Event)
			for _, k := range held[e.Stream] {
				delete(holder, valueOf(e.Stream, k))
			}
			held[e.Stream] = f.keys(states[e.Stream])
			for _, k := range held[e.Stream] {
				v := valueOf(e.Stream, k)
				if other, taken := holder[v]; taken && other != e.Stream {
					s.fail("at %s both %s and %s hold %s", e.Position, other, e.Stream, v)
				}
				holder[v] = e.Stream
			}
		}
		if e.Stream.Aggregate == domain.ReservationName {
			for _, v := range reserved[e.Stream] {
				if h, ok := holder[v]; ok && claimant[e.Stream] != h {
					s.fail("at %s %s holds %s, and the last claim is of %s", e.Position, h, v, claimant[e.Stream])
				}
			}
			continue
		}
		for _, k := range held[e.Stream] {
			r := domain.StreamID{Tenant: e.Tenant, Aggregate: domain.ReservationName, ID: reservationOf(e.Tenant, e.Stream.Aggregate, k)}
			if v := valueOf(e.Stream, k); !slices.Contains(reserved[r], v) {
				reserved[r] = append(reserved[r], v)
			}
			if claimant[r] != e.Stream {
				s.fail("at %s %s holds %s %s without a claim", e.Position, e.Stream, k.Kind, k.Value)
			}
		}
	}
}

// checkPatience holds that whoever asks when nothing breaks any more is answered.
func (s *simulation) checkPatience() {
	for _, r := range s.history {
		if r.begun > stepsRun && r.unknown() {
			s.fail("%s was not answered, though the log was well: %s", r, r.outcome())
		}
	}
}

// checkProbes holds that every value is to be had in the end by whoever asks, unless somebody has it: a claim that came to
// nothing blocks nobody for ever.
func (s *simulation) checkProbes(streams map[domain.StreamID][]domain.Recorded) {
	for _, v := range uniqueValues() {
		r := s.probes[v.name]
		if r == nil {
			continue // the run ended before
		}
		var duplicate *domain.DuplicateError
		if !errors.As(r.err, &duplicate) {
			if r.err != nil || r.lost {
				s.fail("the last claim of %s: %s", v.name, r.outcome())
			}
			continue
		}
		id := domain.StreamID{Tenant: r.asked.Tenant, Aggregate: customer.Aggregate.Name, ID: duplicate.Existing}
		held := folders[customer.Aggregate.Name].keys(folders[customer.Aggregate.Name].fold(streams[id]))
		if !slices.ContainsFunc(held, func(k domain.Key) bool { return k.Kind+" "+k.Value == v.name }) {
			s.fail("%s is refused because of %s, which does not hold it", v.name, duplicate.Existing)
		}
	}
}

// remember asks every server for every aggregate: each answers with what it remembers and what it has missed.
func (s *simulation) remember() {
	s.remembered = map[domain.StreamID]map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(s.log.streams)) {
		id, err := domain.ParseStreamID(name)
		if err != nil || id.Aggregate == domain.ReservationName {
			continue
		}
		s.remembered[id] = map[string]any{}
		for _, srv := range s.servers {
			state, err := s.state(srv, id)
			var missing *domain.NotFoundError
			if err != nil && !errors.As(err, &missing) {
				s.fail("state of %s at %s: %v", id, srv.name, err)
			} else if err == nil {
				s.remembered[id][srv.name] = state
			}
		}
	}
}

// state asks a server for the state of an aggregate, past the scheduler.
func (s *simulation) state(srv *server, id domain.StreamID) (state any, err error) {
	done := make(chan struct{})
	ctx := context.WithValue(context.Background(), requestKey{}, &request{server: srv, asked: commands.Request{Command: customer.Tag{}}})
	go func() {
		defer close(done)
		state, _, err = srv.bus.State(ctx, id.Tenant, id.Aggregate, id.ID)
	}()
	synctest.Wait()
	for _, k := range s.calls() {
		s.answer(k)
	}
	<-done
	return state, err
}

var sameState = cmp.Options{cmpopts.EquateEmpty(), cmp.Comparer(decimal.Decimal.Equal)}

// checkStates is D7: what a bus remembers of a stream and what the log says is the same, and a state once made never
// changes afterwards.
func (s *simulation) checkStates(streams map[domain.StreamID][]domain.Recorded) {
	for _, id := range slices.SortedFunc(maps.Keys(streams), func(a, b domain.StreamID) int { return strings.Compare(a.String(), b.String()) }) {
		f, ok := folders[id.Aggregate]
		if !ok {
			continue // a reservation
		}
		var snapshots []any
		state := f.zero
		for _, e := range streams[id] {
			if !strings.HasPrefix(e.Type(), domain.ReservationName+".") {
				state = f.evolve(state, e.Event)
			}
			snapshots = append(snapshots, state)
		}
		for i, snapshot := range snapshots {
			if diff := cmp.Diff(f.fold(streams[id][:i+1]), snapshot, sameState); diff != "" {
				s.fail("%s at revision %d: (-fold +kept)\n%s", id, i, diff)
			}
		}
		for server, remembered := range s.remembered[id] {
			if diff := cmp.Diff(state, remembered, sameState); diff != "" {
				s.fail("%s in the memory of %s: (-fold +remembered)\n%s", id, server, diff)
			}
		}
	}
}

// checkRules is the rest of D11: rules of the business that hold whatever happened.
func (s *simulation) checkRules(events []domain.Recorded, streams map[domain.StreamID][]domain.Recorded) {
	mergedInto := map[domain.ID]domain.ID{}
	open := map[domain.StreamID]int{} // stages that an opportunity is in
	for _, e := range events {
		switch ev := e.Event.(type) {
		case customer.MergedInto:
			if before, twice := mergedInto[e.Stream.ID]; twice {
				s.fail("%s was merged into %s and into %s", e.Stream, before, ev.SurvivorID)
			}
			mergedInto[e.Stream.ID] = ev.SurvivorID
		case opportunity.Opened, opportunity.Reopened:
			open[e.Stream]++
		case opportunity.Won, opportunity.Lost:
			open[e.Stream]--
		}
		if n := open[e.Stream]; n < 0 || n > 1 {
			s.fail("at %s %s is in %d stages", e.Position, e.Stream, n)
		}
	}
	for id := range mergedInto {
		survivor, steps := id, 0
		for mergedInto[survivor] != "" && steps <= len(mergedInto) {
			survivor, steps = mergedInto[survivor], steps+1
		}
		if steps > len(mergedInto) {
			s.fail("customer %s has no survivor: its merges form a circle", id)
		}
	}
	for id, list := range streams {
		switch id.Aggregate {
		case order.Aggregate.Name:
			o := folders[id.Aggregate].fold(list).(order.Order)
			sum := domain.Decimal{}
			for _, line := range o.Lines {
				sum = sum.Add(line.Quantity.Mul(line.UnitPrice.Decimal))
			}
			if !sum.Equal(o.Total.Decimal) {
				s.fail("%s: its lines come to %s, its total is %s", id, sum, o.Total)
			}
		case customer.Aggregate.Name:
			c := folders[id.Aggregate].fold(list).(customer.Customer)
			for _, duplicate := range c.Absorbed {
				if into := mergedInto[duplicate]; into != "" && into != id.ID && c.MergedInto == "" {
					s.fail("%s has absorbed %s, which was merged into %s", id, duplicate, into)
				}
			}
		}
	}
}

// checkReadModels is D4 to D6: rows are what the oracle finds where it knows the table, and what one fold makes, whatever the batches and however often they are delivered,
// and the same bytes whenever they are made.
func (s *simulation) checkReadModels(events []domain.Recorded) {
	found, err := oracle.Fold(events)
	if err != nil {
		s.fail("%v", err)
		return
	}
	compiled, err := projection.Compile(projections.All()...)
	if err != nil {
		s.t.Fatal(err)
	}
	live := s.newProjector(compiled)
	if err := live.catchUp(); err != nil {
		s.fail("catching up: %v", err)
	}
	s.counts["delivered again"] = live.dropped
	for i, c := range compiled {
		m := c.NewMemory()
		for _, e := range events {
			if err := m.Apply(e); err != nil {
				s.fail("%s: %v", c, err)
			}
		}
		if slices.Contains(oracle.Tables, c.Name) {
			if diff := found.Diff(c.Name, live.rows[i].All()); diff != "" {
				s.fail("the rows are not what the oracle finds:\n%s", diff)
			}
		}
		if first, second := render(m.All()), render(live.rows[i].All()); !bytes.Equal(first, second) {
			s.fail("%s: rows made at once and rows made in batches differ:\n%s", c, cmp.Diff(string(first), string(second)))
		}
	}
}

// render makes bytes of rows.
func render(rows []any) []byte {
	var b bytes.Buffer
	for _, r := range rows {
		v := reflect.ValueOf(r)
		for i := range v.NumField() {
			text, err := json.Marshal(v.Field(i).Interface())
			if err != nil {
				text = []byte(err.Error())
			}
			b.Write(text)
			b.WriteByte(' ')
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}
