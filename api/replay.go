package api

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
)

// MaxReplay is the number of entries of a part of a replay: each carries a whole record.
const MaxReplay = 50

// ReplayParameters ask for a part of a replay.
type ReplayParameters struct {
	IDParameter
	Consistency
	Wording
	After string `query:"after" doc:"Position behind which to go on, or the id of an event, such as the member next of the part before; with axis=occurred that of an event of the record."`
	Limit int    `query:"limit" minimum:"1" maximum:"50" default:"20" doc:"Entries of a part, 50 at most."`
}

func (ReplayParameters) heavy() bool { return true }

// ExplainParameters name a value of a record.
type ExplainParameters struct {
	IDParameter
	Consistency
	Wording
	Field string `query:"field" required:"true" maxLength:"300" doc:"JSON pointer or dotted name of a member of the record's answer. An element of a list is named by its currency, id, line, visit or other identity and, when none is so named, by its place from 0: /visits/1 is the first visit, whose number is 1."`
}

func (ExplainParameters) heavy() bool { return true }

// replayRoutes offer the records that have a stream of their own event by event, and the reasons for their values.
func (s *Server) replayRoutes() error {
	if s.opts.History == nil {
		return nil
	}
	replay[readmodels.Customer360](s, "customer", "customers", "a customer and everything linked to it", "/profile/name")
	replay[readmodels.OpportunityDetail](s, "opportunity", "opportunities", "an opportunity", "/weighted")
	replay[readmodels.OrderDetail](s, "order", "orders", "an order", "/outstanding")
	replay[readmodels.ContactDetail](s, "contact", "contacts", "a contact", "/familyName")
	replay[readmodels.Interaction](s, "interaction", "interactions", "a dealing with a customer", "/subject")
	replay[readmodels.Product](s, "product", "products", "a product", "/name")
	replay[readmodels.PipelineDetail](s, "pipeline", "pipelines", "a pipeline", "/name")
	return nil
}

// replay registers the replay of the records of an aggregate, whose states are of type S, and the explanation of their
// values, of which example is one.
func replay[S any](s *Server, aggregate, plural, words, example string) {
	query(s, route{aggregate + "Replay", "/v1/" + plural + "/{id}/replay", aggregate,
		"Returns the events of " + words + " from the log, the first one first: who, when, what changed, and how the record stood after each.", nil},
		func(ctx context.Context, in *ReplayParameters) (*ListAnswer[readmodels.ReplayEntry[S]], error) {
			after, err := s.place(ctx, "after", in.After)
			if err != nil {
				return nil, err
			}
			if err := s.reached(ctx, "after", after); err != nil {
				return nil, err
			}
			id, reads, err := s.record(ctx, in.IDParameter, in.Consistency)
			if err != nil {
				return nil, err
			}
			entries, at, err := s.opts.History(reads).Replay(ctx, tenant, aggregate, id, momentOf(reads), after, in.Limit+1)
			if err != nil {
				return nil, err
			}
			answer := &ListAnswer[readmodels.ReplayEntry[S]]{Shown: shown(reads, at), Body: List[readmodels.ReplayEntry[S]]{Position: at}}
			if len(entries) > in.Limit {
				entries = entries[:in.Limit]
				answer.Body.Next = entries[in.Limit-1].Position.String()
				answer.Link = nextLink(ctx, "after", answer.Body.Next)
			}
			answer.Told = told(s, in.Wording, entries)
			answer.Body.Items, err = typed[S](entries)
			return answer, err
		})
	explain := "/v1/" + plural + "/{id}/explain"
	query(s, route{aggregate + "Explain", explain, aggregate,
		"Says which events gave a value of " + words + ", each with who, when and what it contributed, and computes the value again from these alone.", nil},
		func(ctx context.Context, in *ExplainParameters) (*View[readmodels.Explanation], error) {
			id, reads, err := s.record(ctx, in.IDParameter, in.Consistency)
			if err != nil {
				return nil, err
			}
			moment := momentOf(reads)
			now := moment.Time
			if now.IsZero() {
				now = s.opts.Clock()
			}
			answer, err := s.opts.History(reads).Explain(ctx, tenant, aggregate, id, moment, in.Field, now)
			if err != nil {
				return nil, err
			}
			return &View[readmodels.Explanation]{
				Shown: shown(reads, answer.Position), Told: told(s, in.Wording, answer.Events), Body: answer,
			}, nil
		})
	for _, p := range s.api.OpenAPI().Paths[explain].Get.Parameters {
		if p.Name == "field" {
			p.Example = example
		}
	}
}

// record reads the parameters of a query for one record.
func (s *Server) record(ctx context.Context, id IDParameter, c Consistency) (domain.ID, *readmodels.Store, error) {
	parsed, err := parseID(id.ID)
	if err != nil {
		return "", nil, err
	}
	reads, err := s.reads(ctx, c, "")
	return parsed, reads, err
}

// momentOf returns the moment of the read models; zero for now.
func momentOf(reads *readmodels.Store) readmodels.AsOf {
	if m := reads.Moment(); m != nil {
		return *m
	}
	return readmodels.AsOf{}
}

// typed gives the states of entries the type that the API documents.
func typed[S any](entries []readmodels.ReplayEntry[any]) ([]readmodels.ReplayEntry[S], error) {
	list := make([]readmodels.ReplayEntry[S], len(entries))
	for i, e := range entries {
		state, ok := e.State.(S)
		if !ok {
			return nil, fmt.Errorf("replay: a state is a %T, not a %T", e.State, state)
		}
		list[i] = readmodels.ReplayEntry[S]{HistoryEntry: e.HistoryEntry, State: state}
	}
	return list, nil
}
