package history

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Scan holds all events that any story of a record needs, read from the log alone: for a customer it went through the whole
// of it. Stories are told from it for any moment.
type Scan struct {
	Head domain.Position // of the last of them

	reader *Reader
	kind   view.Kind
	tenant domain.Tenant
	id     domain.ID
	events []domain.Recorded
}

// Scan reads the events of a record and of everything linked to it. It does not ask the read models, which need not be
// there. A record that never existed is a *domain.NotFoundError.
func (r *Reader) Scan(ctx context.Context, log Log, caller domain.Caller, aggregate string, id domain.ID) (*Scan, error) {
	r, log = r.through(caller), door{log, caller}
	kind, ok := view.Of(aggregate)
	if !ok {
		return nil, fmt.Errorf("history: records of %s are not replayed", aggregate)
	}
	s := &Scan{reader: r, kind: kind, tenant: caller.Tenant, id: id}
	own := domain.StreamID{Tenant: caller.Tenant, Aggregate: aggregate, ID: id}
	streams := []domain.StreamID{own}
	var err error
	if aggregate == "customer" {
		if streams, err = s.linked(ctx, log, own); err != nil {
			return nil, err
		}
	}
	if s.events, err = r.read(ctx, streams); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(s.events, func(e domain.Recorded) bool { return e.Stream == own }) {
		return nil, &domain.NotFoundError{Kind: aggregate, ID: string(id)}
	}
	for _, e := range s.events {
		if s.Head.Before(e.Position) {
			s.Head = e.Position
		}
	}
	return s, nil
}

// linked returns the streams that say something of a customer, of its family or of its relatives.
func (s *Scan) linked(ctx context.Context, log Log, own domain.StreamID) ([]domain.StreamID, error) {
	k, err := kinOf(own, func(stream domain.StreamID) iter.Seq2[domain.Recorded, error] { return log.Read(ctx, stream, 0) })
	if err != nil {
		return nil, err
	}
	for e, err := range log.ReadAll(ctx, domain.Position{}) {
		if err != nil {
			return nil, err
		}
		k.meet(e)
	}
	list := slices.Collect(maps.Keys(k.streams))
	slices.SortFunc(list, func(a, b domain.StreamID) int { return strings.Compare(a.String(), b.String()) })
	return list, nil
}

// linked keeps of events those of the streams that say something of a customer, of its family or of its relatives, as far as
// the events themselves tell: what was linked later is not there.
func linked(own domain.StreamID, events []domain.Recorded) []domain.Recorded {
	byStream := map[domain.StreamID][]domain.Recorded{}
	for _, e := range events {
		byStream[e.Stream] = append(byStream[e.Stream], e)
	}
	// What is read from memory has no errors.
	k, _ := kinOf(own, func(stream domain.StreamID) iter.Seq2[domain.Recorded, error] {
		return func(yield func(domain.Recorded, error) bool) {
			for _, e := range byStream[stream] {
				if !yield(e, nil) {
					return
				}
			}
		}
	})
	for _, e := range events {
		k.meet(e)
	}
	return slices.DeleteFunc(slices.Clone(events), func(e domain.Recorded) bool { return !k.streams[e.Stream] })
}

// kin are the streams that say something of a customer.
type kin struct {
	tenant  domain.Tenant
	family  map[domain.ID]bool // the customer and all that it is one with
	streams map[domain.StreamID]bool
}

// kinOf returns the streams of a customer's family and of the relatives that these name, with read for the events of a
// stream. meet adds others.
func kinOf(own domain.StreamID, read func(domain.StreamID) iter.Seq2[domain.Recorded, error]) (*kin, error) {
	k := &kin{tenant: own.Tenant, family: map[domain.ID]bool{own.ID: true}, streams: map[domain.StreamID]bool{own: true}}
	customerStream := func(id domain.ID) domain.StreamID {
		return domain.StreamID{Tenant: own.Tenant, Aggregate: own.Aggregate, ID: id}
	}
	for family := []domain.StreamID{own}; len(family) > 0; family = family[1:] {
		for e, err := range read(family[0]) {
			if err != nil {
				return nil, err
			}
			merged, relatives := named(e.Event)
			if merged != "" && !k.family[merged] {
				k.family[merged], k.streams[customerStream(merged)] = true, true
				family = append(family, customerStream(merged))
			}
			for _, id := range relatives {
				k.streams[customerStream(id)] = true
			}
		}
	}
	return k, nil
}

// meet adds the stream of an event that says something of the family.
func (k *kin) meet(e domain.Recorded) {
	inFamily := func(id domain.ID) bool { return k.family[id] }
	_, relatives := named(e.Event)
	if e.Tenant == k.tenant && (slices.ContainsFunc(e.Subjects, inFamily) || slices.ContainsFunc(relatives, inFamily)) {
		k.streams[e.Stream] = true
	}
}

// named returns the customers that an event of a customer names: the one that is the same customer, and relatives.
func named(e domain.Event) (merged domain.ID, relatives []domain.ID) {
	switch e := e.(type) {
	case customer.Merged:
		return e.DuplicateID, nil
	case customer.MergedInto:
		return e.SurvivorID, nil
	case customer.Registered:
		if e.ParentID != "" {
			return "", []domain.ID{e.ParentID}
		}
	case customer.ParentSet:
		return "", []domain.ID{e.To}
	case customer.MemberAdded:
		return "", []domain.ID{e.MemberID}
	}
	return "", nil
}

// Story tells what had happened by a moment. Without a position everything is known that the log holds; without a time
// nothing is too late. On AxisRecorded a time ends the story before the first event that was recorded after it.
func (s *Scan) Story(m query.AsOf) (*Story, error) {
	if m.Position.IsZero() {
		m.Position = s.Head
	}
	if m.Time.IsZero() {
		m.Axis = query.AxisRecorded
	}
	events := slices.Clone(s.events)
	if m.Axis != query.AxisOccurred && !m.Time.IsZero() {
		slices.SortFunc(events, func(a, b domain.Recorded) int { return a.Position.Compare(b.Position) })
		if i := slices.IndexFunc(events, func(e domain.Recorded) bool { return e.RecordedAt.After(m.Time) }); i >= 0 {
			events = events[:i]
		}
	}
	return s.reader.story(s.kind, s.tenant, s.id, events, m)
}
