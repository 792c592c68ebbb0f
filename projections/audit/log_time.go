// Package audit declares the read models about the log itself.
package audit

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/audit"
)

type logTimeKey struct {
	Tenant domain.Tenant `db:"tenant"`
	Second int64         `db:"second"`
}

// LogTime keeps where in the log the events of each second stand.
var LogTime = projection.Fold[logTimeKey, audit.LogTime]{
	Name: "log_time", Version: 1,
	Doc:    "The seconds in which events were recorded, and where in the log they stand: leads from a time to a position.",
	Untold: true,
	Events: []string{"*"},
	Keys:   func(e domain.Recorded) []logTimeKey { return []logTimeKey{{e.Tenant, e.RecordedAt.Unix()}} },
	Evolve: func(r audit.LogTime, _ logTimeKey, e domain.Recorded) audit.LogTime {
		if r.Events == 0 {
			r.FirstRecordedAt, r.FirstPosition, r.FirstCommit = e.RecordedAt, e.Position.Order(), int64(e.Position.Commit)
		}
		r.Events++
		r.Position = e.Position.Order()
		return r
	},
	Indexes: audit.LogTimes.Indexes,
}
