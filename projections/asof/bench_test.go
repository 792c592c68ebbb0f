package asof

import (
	"context"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// storedLog holds encoded events, so that reading them costs their decoding.
type storedLog struct {
	eventlog.Log
	b        *testing.B
	registry *codec.Registry
	raw      []codec.Raw
	streams  map[string][]codec.Raw
}

func (l *storedLog) add(aggregate string, id domain.ID, e domain.Event) {
	stream := domain.StreamID{Tenant: tenant, Aggregate: aggregate, ID: id}
	at := uint64(len(l.raw) + 1)
	when := noon.Add(time.Duration(at) * time.Second)
	data, metadata, err := l.registry.Encode(domain.Pending{ID: fmt.Sprintf("00000000-0000-7000-9000-%012d", at), Event: e, Metadata: domain.Metadata{
		Schema: 1, Tenant: tenant, Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman}, OccurredAt: when, RecordedAt: when,
		CommandID: string(id), CorrelationID: string(id), CausationID: string(id), Subjects: []domain.ID{id},
	}})
	if err != nil {
		l.b.Fatal(err)
	}
	raw := codec.Raw{
		ID: fmt.Sprintf("00000000-0000-7000-9000-%012d", at), Type: e.EventType(), Stream: stream.String(),
		Revision: uint64(len(l.streams[stream.String()])), Position: domain.Position{Commit: at, Prepare: at}, Data: data, Metadata: metadata,
	}
	l.raw = append(l.raw, raw)
	l.streams[stream.String()] = append(l.streams[stream.String()], raw)
}

func (l *storedLog) ReadAll(_ context.Context, after domain.Position) iter.Seq2[codec.Raw, error] {
	return pairs(l.raw[min(after.Prepare, uint64(len(l.raw))):])
}

func (l *storedLog) ReadStream(_ context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error] {
	return pairs(l.streams[stream][from:])
}

func pairs(list []codec.Raw) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		for _, raw := range list {
			if !yield(raw, nil) {
				return
			}
		}
	}
}

func (l *storedLog) evaluator() *Evaluator {
	url := pgtest.Database(l.b)
	reads, err := query.Open(l.b.Context(), url)
	if err != nil {
		l.b.Fatal(err)
	}
	l.b.Cleanup(reads.Close)
	e, err := Open(l.b.Context(), url, eventlog.NewStore(l, l.registry), reads.For(domain.Caller{Tenant: tenant}), projections.All(), Options{Wait: time.Minute})
	if err != nil {
		l.b.Fatal(err)
	}
	l.b.Cleanup(e.Close)
	return e
}

func newStoredLog(b *testing.B) *storedLog {
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		b.Fatal(err)
	}
	return &storedLog{b: b, registry: registry, streams: map[string][]codec.Raw{}}
}

func id(kind, n int) domain.ID {
	return domain.ID(fmt.Sprintf("00000000-0000-7000-8%03x-%012x", kind, n))
}

// BenchmarkRecord reads a customer of so many events as of the last.
func BenchmarkRecord(b *testing.B) {
	for _, events := range []int{10, 1_000} {
		b.Run(fmt.Sprint(events), func(b *testing.B) {
			l := newStoredLog(b)
			l.add("customer", id(1, 1), customer.Registered{Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}})
			for n := range events - 1 {
				l.add("customer", id(1, 1), customer.OwnershipTransferred{From: "ann", To: fmt.Sprint("user", n)})
			}
			e := l.evaluator()
			for b.Loop() {
				if _, _, err := party.CustomerRecord.Read(b.Context(), e.At(moment(uint64(events))), id(1, 1)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFunnel reads the funnel of 10,000 opportunities with 30,000 events, as of a moment that nobody has asked for and
// then as of the same again.
func BenchmarkFunnel(b *testing.B) {
	l := newStoredLog(b)
	l.add("pipeline", pipeline.DefaultID, pipeline.Defined{Name: "Sales", Version: 1, Stages: []pipeline.Stage{{Key: "q", Name: "Q", Probability: 10}, {Key: "p", Name: "P", Probability: 50}}})
	const deals = 10_000
	standing := opportunity.Standing{Owner: "ann", PipelineID: pipeline.DefaultID, PipelineVersion: 1}
	amount := domain.MustMoney("1000", "EUR")
	for n := range deals {
		l.add("opportunity", id(2, n), opportunity.Opened{Name: "Deal", Standing: standing, Stage: "q", Visit: 1, Probability: 10, Amount: &amount})
		l.add("opportunity", id(2, n), opportunity.StageMoved{From: "q", To: "p", FromVisit: 1, ToVisit: 2, Probability: 50, Standing: standing, Amount: &amount})
		l.add("opportunity", id(2, n), opportunity.Won{Stage: "p", Visit: 2, Amount: amount, Standing: standing})
	}
	e := l.evaluator()
	ask := func(b *testing.B, p uint64) {
		m := moment(p)
		m.Time = noon.Add(time.Hour * 24 * 365)
		f, err := sales.ReadFunnel(b.Context(), e.At(m), sales.FunnelQuery{PipelineID: pipeline.DefaultID}, noon)
		if err != nil || f.Definition.PopulationSize != deals {
			b.Fatal(f.Definition, err)
		}
	}
	next := uint64(len(l.raw)) // every position from here on is another moment of the same state
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			next++
			ask(b, next)
		}
	})
	b.Run("warm", func(b *testing.B) {
		for b.Loop() {
			ask(b, next)
		}
	})
}
