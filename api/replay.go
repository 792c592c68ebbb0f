package api

import (
	"context"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// MaxReplay is the number of entries of a part of a replay: each carries a whole record.
const MaxReplay = 50

// ReplayParameters ask for a part of a replay.
type ReplayParameters struct {
	resource.IDParameter
	resource.Consistency
	Wording
	After string `query:"after" doc:"Position behind which to go on, or the id of an event, such as the member next of the part before; with axis=occurred that of an event of the record."`
	Limit int    `query:"limit" minimum:"1" maximum:"50" default:"20" doc:"Entries of a part, 50 at most."`
}

func (ReplayParameters) Heavy() bool { return true }

// ExplainParameters name a value of a record.
type ExplainParameters struct {
	resource.IDParameter
	resource.Consistency
	Wording
	Field string `query:"field" required:"true" maxLength:"300" doc:"JSON pointer or dotted name of a member of the record's answer. An element of a list is named by its currency, id, line, visit or other identity and, when none is so named, by its place from 0: /visits/1 is the first visit, whose number is 1."`
}

func (ExplainParameters) Heavy() bool { return true }

// replayRoutes offer the records that have a stream of their own event by event, and the reasons for their values.
func (s *Server) replayRoutes() error {
	if s.opts.History == nil {
		return nil
	}
	for _, r := range readmodels.Records() {
		s.replay(r.DeclaredRecord())
	}
	return nil
}

// replayed is a part of a replay with its headers.
type replayed struct {
	resource.Shown
	resource.Told
	Link string `header:"Link" doc:"The next page, rel=\"next\"."`
	Body any
}

// replay registers the replay of records and the explanation of their values.
func (s *Server) replay(d query.RecordDeclaration) {
	resource.Query(s, resource.Route{
		ID: d.Aggregate + "Replay", Path: d.Path + "/replay", Tag: d.Aggregate, Body: d.Replayed,
		Doc: "Returns the events of " + d.Words + " from the log, the first one first: who, when, what changed, and how the record stood after each.",
	}, func(ctx context.Context, in *ReplayParameters) (*replayed, error) {
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
		entries, at, err := s.opts.History(reads).Replay(ctx, reads.Caller(), d.Aggregate, id, momentOf(reads), after, in.Limit+1)
		if err != nil {
			return nil, err
		}
		part := query.List[query.ReplayEntry[any]]{Items: entries, Position: at}
		if len(entries) > in.Limit {
			part.Items = entries[:in.Limit]
			part.Next = part.Items[in.Limit-1].Position.String()
		}
		return &replayed{
			Shown: resource.Basis(reads, at), Told: told(s, in.Wording, part.Items), Link: resource.NextLink(ctx, s, "after", part.Next), Body: part,
		}, nil
	})
	explain := d.Path + "/explain"
	resource.Query(s, resource.Route{
		ID: d.Aggregate + "Explain", Path: explain, Tag: d.Aggregate,
		Doc: "Says which events gave a value of " + d.Words + ", each with who, when and what it contributed, and computes the value again from these alone.",
	}, func(ctx context.Context, in *ExplainParameters) (*resource.View[query.Explanation], error) {
		id, reads, err := s.record(ctx, in.IDParameter, in.Consistency)
		if err != nil {
			return nil, err
		}
		moment := momentOf(reads)
		now := moment.Time
		if now.IsZero() {
			now = s.opts.Clock()
		}
		answer, err := s.opts.History(reads).Explain(ctx, reads.Caller(), d.Aggregate, id, moment, in.Field, now)
		if err != nil {
			return nil, err
		}
		return &resource.View[query.Explanation]{
			Shown: resource.Basis(reads, answer.Position), Told: told(s, in.Wording, answer.Events), Body: answer,
		}, nil
	})
	resource.Example(s, explain, map[string]any{"field": d.Explains})
}

// record reads the parameters of a query for one record.
func (s *Server) record(ctx context.Context, id resource.IDParameter, c resource.Consistency) (domain.ID, *query.Store, error) {
	parsed, err := id.Of()
	if err != nil {
		return "", nil, err
	}
	reads, err := s.Reads(ctx, c, "")
	return parsed, reads, err
}

// momentOf returns the moment of the read models; zero for now.
func momentOf(reads *query.Store) query.AsOf {
	if m := reads.Moment(); m != nil {
		return *m
	}
	return query.AsOf{}
}
