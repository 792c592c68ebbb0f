package api

import (
	"context"
	"errors"
	"time"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Past finds moments of the past and answers as of them.
type Past interface {
	// Resolve finds the moment that a client names, or returns an *domain.InvalidError.
	Resolve(ctx context.Context, tenant domain.Tenant, q query.PastQuery) (query.AsOf, error)
	// At returns the read models as of a moment.
	At(m query.AsOf) *query.Store
}

// Reads implements resource.Host.
func (s *Server) Reads(ctx context.Context, c resource.Consistency, cursor string) (*query.Store, error) {
	reads, err := s.least(c.MinPosition)
	if err != nil {
		return nil, err
	}
	caller := callOf(ctx).caller
	q, err := s.pastQuery(ctx, c.PastParameters)
	if err != nil || q == nil {
		return reads.For(caller), err
	}
	if _, err := reads.Position(ctx); err != nil { // what a moment of the past is made of is not known by views
		return nil, err
	}
	if q.Pinned, err = s.opts.Reads.PinnedPosition(cursor); err != nil {
		return nil, err
	}
	if s.opts.Past == nil {
		return nil, domain.Invalid("asOf", "this server answers as of now only")
	}
	m, err := s.opts.Past.Resolve(ctx, caller.Tenant, *q)
	if err != nil {
		return nil, err
	}
	return s.opts.Past.At(m).For(caller), nil
}

// pastQuery reads the parameters; nil means now.
func (s *Server) pastQuery(ctx context.Context, p resource.PastParameters) (*query.PastQuery, error) {
	occurred := p.Axis == query.AxisOccurred
	switch {
	case p.KnownAt != "" && !occurred:
		return nil, domain.Invalid("knownAt", "goes with axis=occurred only; on axis recorded asOf says what was known")
	case p.AsOf == "" && occurred:
		return nil, domain.Invalid("asOf", "is missing: axis=occurred needs a time")
	case p.AsOf == "":
		return nil, nil
	}
	q := query.PastQuery{Axis: p.Axis}
	var err error
	if q.AsOf, err = s.point(ctx, "asOf", p.AsOf); err != nil {
		return nil, err
	}
	if occurred && q.AsOf.Position != nil {
		return nil, domain.Invalid("asOf", "axis=occurred needs a time: positions order what was recorded")
	}
	if p.KnownAt != "" {
		q.KnownAt, err = s.point(ctx, "knownAt", p.KnownAt)
	}
	return &q, err
}

// point reads a time, a position of the log, or the id of an event, which stands for its position.
func (s *Server) point(ctx context.Context, name, text string) (query.Point, error) {
	if _, err := domain.ParseID(text); err == nil {
		p, err := s.place(ctx, name, text)
		return query.Point{Position: &p}, err
	}
	if p, err := domain.ParsePosition(text); err == nil {
		return query.Point{Position: &p}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !isInstant(t) {
		return query.Point{}, domain.Invalid(name, "is neither a time of the form 2006-01-02T15:04:05Z nor a position of the log nor the id of an event")
	}
	return query.Point{Time: t.UTC()}, nil
}

// place reads a position of the log, or the id of an event, whose position it finds. Empty is before everything.
func (s *Server) place(ctx context.Context, name, text string) (domain.Position, error) {
	id, err := domain.ParseID(text)
	if err != nil {
		return parsePosition(name, text)
	}
	if s.opts.History == nil {
		return domain.Position{}, domain.Invalid(name, "this server finds no events: give a position of the log")
	}
	caller := callOf(ctx).caller
	p, err := s.opts.History(s.opts.Reads.For(caller)).Place(ctx, caller, id)
	var none *domain.NotFoundError
	if errors.As(err, &none) {
		return p, domain.Invalid(name, "names no event of this log")
	}
	return p, err
}

// isInstant reports whether a client can mean the time: not the one that Go takes for no time at all, and in four digits.
func isInstant(t time.Time) bool {
	return !t.IsZero() && t.UTC().Year() >= 1 && t.UTC().Year() <= 9999
}
