package resource

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Consistency are the parameters of queries that say which state they see.
type Consistency struct {
	MinPosition string `query:"minPosition" doc:"Wait, up to 5 seconds, until what the query reads reflects this position of the log, as a receipt names it; 503 when they do not, 400 when the log itself has not reached it by then."`
	PastParameters
}

// PastParameters name the moment that a query sees.
type PastParameters struct {
	AsOf    string     `query:"asOf" maxLength:"64" doc:"Answer as of the past: a time (RFC 3339), a position of the log, or the id of an event, which is the last one seen then. The state of now when left out."`
	Axis    query.Axis `query:"axis" enum:"recorded,occurred" default:"recorded" doc:"What asOf divides: recorded, the answer as it was known then; occurred, restated: everything that is known now and had happened then, folded in the order in which it happened."`
	KnownAt string     `query:"knownAt" maxLength:"64" doc:"With axis=occurred: a time, a position or the id of an event up to which what was recorded counts; everything does when left out."`
}

// Heavy reports whether the answer is made from the log: that takes memory and time, however little is asked.
func (p PastParameters) Heavy() bool { return p.AsOf != "" }

// ListParameters are the parameters of every list.
type ListParameters struct {
	Consistency
	Filter string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an item. Known are == != < <= > >= in && || !, startsWith, contains, endsWith, lowerAscii, \"x\" in list, has(map.key), map.key, timestamp(\"2026-01-31T00:00:00Z\"), true, false and null."`
	Sort   string `query:"sort" maxLength:"500" doc:"Up to five fields, - in front for descending; not the bodies of dealings nor the texts of feedback."`
	Cursor string `query:"cursor" maxLength:"17000" doc:"The member next of the page before; for the same filter, sort, asOf and axis only. Pages as of the past show one state."`
	Limit  int    `query:"limit" minimum:"1" default:"50" doc:"Items of a page, 200 at most."`
	Count  string `query:"count" enum:"none,estimate,exact" default:"none" doc:"Whether and how to count all items that match."`
}

// Query returns what the parameters ask of a resource.
func (p ListParameters) Query() query.Query {
	return query.Query{Filter: p.Filter, Sort: p.Sort, Cursor: p.Cursor, Limit: p.Limit, Count: query.Count(p.Count)}
}

// IDParameter names a record in the path.
type IDParameter struct {
	ID string `path:"id" format:"uuid" doc:"The record." example:"01900000-0000-7000-8000-000000000001"`
}

// Of reads the id.
func (p IDParameter) Of() (domain.ID, error) { return ParseID(p.ID) }

// ParseID reads the id of a path.
func ParseID(s string) (domain.ID, error) {
	id, err := domain.ParseID(s)
	if err != nil {
		return "", domain.Invalid("id", "is not a UUID")
	}
	return id, nil
}

// RecordParameters name one record that the client may know already.
type RecordParameters struct {
	IDParameter
	Consistency
	IfNoneMatch string `header:"If-None-Match" doc:"ETag of the record that the client has: the answer is 304 without a body when it is still the same."`
}
