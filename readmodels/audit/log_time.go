package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// LogTime is one second in which events were recorded.
type LogTime struct {
	Tenant          domain.Tenant `db:"tenant,key" json:"-" doc:"Tenant that owns the row."`
	Second          int64         `db:"second,key" json:"second" doc:"The second, counted from 1970-01-01 UTC."`
	Events          int64         `db:"events" json:"events" doc:"Number of events recorded in it."`
	FirstRecordedAt time.Time     `db:"first_recorded_at" json:"firstRecordedAt" doc:"When the first of them in the log was recorded."`
	FirstPosition   int64         `db:"first_position" json:"firstPosition" doc:"Place in the log of the first."`
	FirstCommit     int64         `db:"first_commit" json:"firstCommit" doc:"Commit position of the first, which EventStoreDB may tell apart."`
	Position        int64         `db:"position" json:"position" doc:"Place in the log of the last event of the row."`
}

// First returns the position of the first event.
func (l LogTime) First() domain.Position {
	return domain.Position{Commit: uint64(l.FirstCommit), Prepare: uint64(l.FirstPosition)}
}

// LogTimes lists the seconds in which events were recorded, and where in the log they stand.
var LogTimes = &query.Resource[LogTime]{
	Name: "logTimes", Path: "/v1/log-times", About: "event", View: "log_time",
	Doc:     "Lists the seconds in which events were recorded, and where in the log they stand.",
	Sort:    "second",
	Indexes: []query.Index{{Name: "first", Columns: "tenant, first_position"}},
	Example: query.Example{Filter: `events > 10`, Sort: "-second"},
}

// LogTimeOf returns the second in which an event was recorded and, of those after it, the one that begins first in the
// log. Either is nil when there is none.
func LogTimeOf(ctx context.Context, s *query.Store, at time.Time) (in, next *LogTime, err error) {
	if in, err = logTime(ctx, s, "tenant = $1 and second = $2", string(s.Tenant()), at.Unix()); err != nil {
		return nil, nil, err
	}
	next, err = logTime(ctx, s, `tenant = $1 and second > $2 and first_position = (
		select min(first_position) from log_time where tenant = $1 and second > $2)`, string(s.Tenant()), at.Unix())
	return in, next, err
}

// LogTimeBefore returns the second that begins last in the log before a position, nil when none does.
func LogTimeBefore(ctx context.Context, s *query.Store, p domain.Position) (*LogTime, error) {
	return logTime(ctx, s, "tenant = $1 and first_position < $2 order by first_position desc limit 1", string(s.Tenant()), p.Order())
}

func logTime(ctx context.Context, s *query.Store, where string, args ...any) (*LogTime, error) {
	row, _, err := LogTimes.One(ctx, s, query.Views(LogTimes.View), "second", "", where, args...)
	var none *domain.NotFoundError
	switch {
	case errors.As(err, &none):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("find the time in the log: %w", err)
	}
	return &row, nil
}
