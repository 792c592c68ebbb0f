package api

import (
	"context"
	"errors"
	"net/url"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

var _ resource.Host = (*Server)(nil)

// API implements resource.Host.
func (s *Server) API() huma.API { return s.api }

// URL implements resource.Host.
func (s *Server) URL(ctx context.Context) *url.URL { return callOf(ctx).url }

// Describe implements resource.Host.
func (s *Server) Describe(m resource.ReadModelMetadata) { s.readModels = append(s.readModels, m) }

const tooManyHeavy = "Too many answers are being made from the log."

// Bounded implements resource.Host.
func (s *Server) Bounded(ctx context.Context, path string, heavy bool, run func() error) error {
	if heavy {
		if err := s.heavySlots.take(tooManyHeavy); err != nil {
			return s.problem(ctx, path, err)
		}
		defer s.heavySlots.leave()
	}
	return s.problem(ctx, path, run())
}

// problem returns an error as the problem that the client is told; nil stays nil.
func (s *Server) problem(ctx context.Context, path string, err error) error {
	if err == nil {
		return nil
	}
	p := *problemOf(err)
	s.report(ctx, &p, path)
	p.locate(ctx)
	return &p
}

// queryRoutes offers the read models: what is declared, but for what is special, and then that.
func (s *Server) queryRoutes() error {
	declared := slices.DeleteFunc(readmodels.Resources(), func(r query.Listed) bool { return r == query.Listed(party.Customers) })
	resource.Register(s, declared, readmodels.Records())
	s.customerQueries()
	s.salesQueries()
	s.funnelQuery()
	return nil
}

// least returns the read models whose queries wait, within the read models' own bound, until what they read reflects the position
// that the client asks for. One that the log has not reached by then is no position of the log.
func (s *Server) least(minPosition string) (*query.Store, error) {
	if minPosition == "" {
		return s.opts.Reads, nil
	}
	p, err := parsePosition("minPosition", minPosition)
	if err != nil {
		return nil, err
	}
	return s.opts.Reads.AtLeast(p, func(ctx context.Context) error {
		var beyond *domain.InvalidError
		if s.opts.Log == nil {
			return nil
		}
		if err := s.reached(ctx, "minPosition", p); errors.As(err, &beyond) {
			return err
		}
		return nil
	}), nil
}

// reached refuses a position that the log has not reached. Name is where it was given.
func (s *Server) reached(ctx context.Context, name string, p domain.Position) error {
	if p.IsZero() {
		return nil
	}
	head, err := s.opts.Log.Head(ctx)
	if err == nil && head.Position.Before(p) {
		err = domain.Invalid(name, "the log ends at position {position}", head.Position)
	}
	return err
}

func parsePosition(name, text string) (domain.Position, error) {
	if text == "" {
		return domain.Position{}, nil
	}
	p, err := domain.ParsePosition(text)
	if err != nil {
		return p, domain.Invalid(name, "is not a position of the log")
	}
	return p, nil
}
