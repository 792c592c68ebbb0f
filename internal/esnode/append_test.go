package esnode

import (
	"bytes"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/go-cmp/cmp"
)

func TestAppendedEventIsReadBackWhole(t *testing.T) {
	_, c := fresh(t)
	written := event("customer.registered", `{"name":"Ada"}`)
	before := time.Now().Add(-time.Second)
	result := mustAppend(t, c, "main.customer-1", esdb.NoStream{}, written)

	list, err := readStream(t, c, "main.customer-1", esdb.ReadStreamOptions{}, everything)
	if err != nil || len(list) != 1 {
		t.Fatalf("read %d events, error %v", len(list), err)
	}
	got := list[0].Event
	if got.EventID != written.EventID || got.EventType != written.EventType || got.ContentType != "application/json" ||
		got.StreamID != "main.customer-1" || got.EventNumber != 0 ||
		!bytes.Equal(got.Data, written.Data) || !bytes.Equal(got.UserMetadata, written.Metadata) {
		t.Errorf("read %+v, wrote %+v", got, written)
	}
	if got.CreatedDate.Before(before) || got.CreatedDate.After(time.Now().Add(time.Second)) {
		t.Errorf("created at %v", got.CreatedDate)
	}
	if got.Position.Commit != result.CommitPosition || got.Position.Prepare != result.PreparePosition {
		t.Errorf("position %+v, append said %+v", got.Position, result)
	}
	if list[0].Commit == nil || *list[0].Commit != result.CommitPosition {
		t.Errorf("commit position %v, want %d", list[0].Commit, result.CommitPosition)
	}
	all := readAll(t, c, esdb.ReadAllOptions{}, everything)
	if diff := cmp.Diff(list[0], all[len(all)-1]); diff != "" {
		t.Errorf("$all and the stream differ (-stream +all):\n%s", diff)
	}
}
