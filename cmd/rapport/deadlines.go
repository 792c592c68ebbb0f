package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/rapport-crm/rapport/commands/deadline"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/due"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/work"
)

// deadlineRows are the deadlines of all tenants in the read models.
type deadlineRows struct{ *query.Store }

// Due implements deadline.Rows.
func (r deadlineRows) Due(ctx context.Context, now time.Time, after deadline.Due, limit int) ([]deadline.Due, error) {
	rows, err := work.Due(ctx, r.Store, now, work.Deadline{
		Tenant: after.Tenant, Aggregate: after.Aggregate, AggregateID: after.ID, What: after.What, Key: after.Key, DueAt: after.At,
	}, limit)
	list := make([]deadline.Due, len(rows))
	for i, d := range rows {
		list[i] = deadline.Due{Tenant: d.Tenant, Aggregate: d.Aggregate, ID: d.AggregateID, What: d.What, Key: d.Key, At: d.DueAt}
	}
	return list, err
}

// CountDue implements deadline.Rows.
func (r deadlineRows) CountDue(ctx context.Context, now time.Time) (int, error) {
	return work.CountDue(ctx, r.Store, now)
}

// deadlineJob wakes what is due in any tenant, again and again.
func deadlineJob(bus deadline.Bus, reads *query.Store, logger *slog.Logger) (due.Job, error) {
	waker, err := deadline.New(aggregates.All(), deadlineRows{reads.ForLoops()}, bus, time.Now, logger)
	if err != nil {
		return due.Job{}, err
	}
	return due.Job{Name: "deadlines", Every: deadline.Every, Do: waker.Wake}, nil
}
