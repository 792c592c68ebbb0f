package api

import (
	"context"
	"errors"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
)

// Past finds moments of the past and answers as of them.
type Past interface {
	// Resolve finds the moment that a client names, or returns an *domain.InvalidError.
	Resolve(ctx context.Context, tenant domain.Tenant, q readmodels.PastQuery) (readmodels.AsOf, error)
	// At returns the read models as of a moment.
	At(m readmodels.AsOf) *readmodels.Store
}

// PastParameters name the moment that a query sees.
type PastParameters struct {
	AsOf    string          `query:"asOf" maxLength:"64" doc:"Answer as of the past: a time (RFC 3339), a position of the log, or the id of an event, which is the last one seen then. The state of now when left out."`
	Axis    readmodels.Axis `query:"axis" enum:"recorded,occurred" default:"recorded" doc:"What asOf divides: recorded, the answer as it was known then; occurred, restated: everything that is known now and had happened then, folded in the order in which it happened."`
	KnownAt string          `query:"knownAt" maxLength:"64" doc:"With axis=occurred: a time, a position or the id of an event up to which what was recorded counts; everything does when left out."`
}

// Shown says in headers which state an answer shows.
type Shown struct {
	Position string          `header:"X-As-Of-Position" doc:"Place in the log that the answer reflects; at least, when it is of now."`
	Axis     readmodels.Axis `header:"X-As-Of-Axis" doc:"recorded: as known then; occurred: restated."`
	Time     string          `header:"X-As-Of-Time" doc:"The instant that the answer calls now; absent when it is of now, or of before the first event."`
}

func shown(reads *readmodels.Store, at domain.Position) Shown {
	basis := Shown{Position: at.String(), Axis: readmodels.AxisRecorded}
	if m := reads.Moment(); m != nil {
		basis.Axis = m.Axis
		if !m.Time.IsZero() {
			basis.Time = m.Time.UTC().Format(time.RFC3339Nano)
		}
	}
	return basis
}

// reads returns the read models that a query sees: those of now, once they reflect the position asked for, or those as of
// the moment asked for. cursor is that of a list.
func (s *Server) reads(ctx context.Context, c Consistency, cursor string) (*readmodels.Store, error) {
	if err := s.await(ctx, c.MinPosition); err != nil {
		return nil, err
	}
	q, err := s.pastQuery(ctx, c.PastParameters)
	if err != nil || q == nil {
		return s.opts.Reads, err
	}
	if q.Pinned, err = s.opts.Reads.PinnedPosition(cursor); err != nil {
		return nil, err
	}
	if s.opts.Past == nil {
		return nil, domain.Invalid("asOf", "this server answers as of now only")
	}
	m, err := s.opts.Past.Resolve(ctx, tenant, *q)
	if err != nil {
		return nil, err
	}
	return s.opts.Past.At(m), nil
}

// heavy reports whether the answer is made from the log: that takes memory and time, however little is asked.
func (p PastParameters) heavy() bool { return p.AsOf != "" }

// pastQuery reads the parameters; nil means now.
func (s *Server) pastQuery(ctx context.Context, p PastParameters) (*readmodels.PastQuery, error) {
	occurred := p.Axis == readmodels.AxisOccurred
	switch {
	case p.KnownAt != "" && !occurred:
		return nil, domain.Invalid("knownAt", "goes with axis=occurred only; on axis recorded asOf says what was known")
	case p.AsOf == "" && occurred:
		return nil, domain.Invalid("asOf", "is missing: axis=occurred needs a time")
	case p.AsOf == "":
		return nil, nil
	}
	q := readmodels.PastQuery{Axis: p.Axis}
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
func (s *Server) point(ctx context.Context, name, text string) (readmodels.Point, error) {
	if _, err := domain.ParseID(text); err == nil {
		p, err := s.place(ctx, name, text)
		return readmodels.Point{Position: &p}, err
	}
	if p, err := domain.ParsePosition(text); err == nil {
		return readmodels.Point{Position: &p}, nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || !isInstant(t) {
		return readmodels.Point{}, domain.Invalid(name, "is neither a time of the form 2006-01-02T15:04:05Z nor a position of the log nor the id of an event")
	}
	return readmodels.Point{Time: t.UTC()}, nil
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
	p, err := s.opts.History(s.opts.Reads).Place(ctx, tenant, id)
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
