package resource

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Shown says in headers which state an answer shows.
type Shown struct {
	Position string     `header:"X-As-Of-Position" doc:"Place in the log that the answer reflects; at least, when it is of now."`
	Axis     query.Axis `header:"X-As-Of-Axis" doc:"recorded: as known then; occurred: restated."`
	Time     string     `header:"X-As-Of-Time" doc:"The instant that the answer calls now; absent when it is of now, or of before the first event."`
}

// Basis says which state an answer of the read models shows.
func Basis(reads *query.Store, at domain.Position) Shown {
	basis := Shown{Position: at.String(), Axis: query.AxisRecorded}
	if m := reads.Moment(); m != nil {
		basis.Axis = m.Axis
		if !m.Time.IsZero() {
			basis.Time = m.Time.UTC().Format(time.RFC3339Nano)
		}
	}
	return basis
}

// Told says in a header in which language an answer tells events.
type Told struct {
	Language domain.Language `header:"Content-Language" doc:"Language of the words; absent when the answer has none."`
}

// ListAnswer is a page with its headers.
type ListAnswer[R any] struct {
	Shown
	Told
	Link string `header:"Link" doc:"The next page, rel=\"next\"."`
	Body query.List[R]
}

// Record is one record with its headers.
type Record[R any] struct {
	Status int
	Shown
	ETag string `header:"ETag" doc:"Revision of the record, in quotes: for If-Match of a command, or If-None-Match. Absent on axis occurred."`
	Body R
}

// View is an answer that is not one record.
type View[R any] struct {
	Shown
	Told
	Body R
}

// Paged answers a page of a list.
func Paged[R any](ctx context.Context, h Host, reads *query.Store, page query.List[R], err error) (*ListAnswer[R], error) {
	if err != nil {
		return nil, err
	}
	return &ListAnswer[R]{Shown: Basis(reads, page.Position), Link: NextLink(ctx, h, "cursor", page.Next), Body: page}, nil
}

// All answers a list that is not paged.
func All[R any](ctx context.Context, h Host, c Consistency, read func(*query.Store) ([]R, domain.Position, error)) (*ListAnswer[R], error) {
	reads, err := h.Reads(ctx, c, "")
	if err != nil {
		return nil, err
	}
	rows, at, err := read(reads)
	if err != nil {
		return nil, err
	}
	return &ListAnswer[R]{Shown: Basis(reads, at), Body: query.List[R]{Items: rows, Position: at}}, nil
}

// Viewed answers a view.
func Viewed[R any](reads *query.Store, view R, at domain.Position, err error) (*View[R], error) {
	if err != nil {
		return nil, err
	}
	return &View[R]{Shown: Basis(reads, at), Body: view}, nil
}

// NextLink renders the Link header of a page: the same request with another cursor.
func NextLink(ctx context.Context, h Host, parameter, cursor string) string {
	u := h.URL(ctx)
	if cursor == "" || u == nil {
		return ""
	}
	values := u.Query()
	values.Set(parameter, cursor)
	return fmt.Sprintf("<%s?%s>; rel=\"next\"", u.EscapedPath(), values.Encode())
}

// Recorded answers a record at a revision of its stream, without a body when the client knows it already.
func Recorded[R any](row R, revision int64, basis Shown, ifNoneMatch string) *Record[R] {
	answer := &Record[R]{Status: http.StatusOK, Shown: basis, Body: row}
	if basis.Axis == query.AxisOccurred {
		return answer // one revision has many restatements
	}
	answer.ETag = ETag(uint64(revision))
	for known := range strings.SplitSeq(ifNoneMatch, ",") {
		if known = strings.TrimPrefix(strings.TrimSpace(known), "W/"); known == answer.ETag || known == "*" {
			answer.Status = http.StatusNotModified
		}
	}
	return answer
}

// ETag renders a revision of a record.
func ETag(revision uint64) string { return `"` + strconv.FormatUint(revision, 10) + `"` }
