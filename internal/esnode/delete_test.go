package esnode

import (
	"errors"
	"strings"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/shared"
	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func mustDelete(t *testing.T, c *esdb.Client, stream string, expected esdb.ExpectedRevision) *esdb.DeleteResult {
	t.Helper()
	result, err := c.DeleteStream(testContext(t), stream, esdb.DeleteStreamOptions{ExpectedRevision: expected})
	if err != nil {
		t.Fatalf("delete %s: %v", stream, err)
	}
	return result
}

// S15 of docs/faults.md.
func TestSoftDeletedStreamContinuesItsRevisions(t *testing.T) {
	for name, expected := range map[string]esdb.ExpectedRevision{
		"any": esdb.Any{}, "no stream": esdb.NoStream{}, "exact": esdb.Revision(2),
	} {
		t.Run(name, func(t *testing.T) {
			_, c := fresh(t)
			last := mustAppend(t, c, "s", esdb.NoStream{}, events(3)...)
			deleted := mustDelete(t, c, "s", esdb.Revision(2))
			if deleted.Position.Commit <= last.CommitPosition {
				t.Errorf("deleted at %+v, appended at %+v", deleted.Position, last)
			}
			_, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything)
			wantCode(t, err, esdb.ErrorCodeResourceNotFound)
			_, err = readStream(t, c, "s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
			wantCode(t, err, esdb.ErrorCodeResourceNotFound)
			_, err = c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.StreamExists{}}, event("again", "{}"))
			wantCode(t, err, esdb.ErrorCodeStreamDeleted)

			if got := mustAppend(t, c, "s", expected, event("again", `{"n":3}`)); got.NextExpectedVersion != 3 {
				t.Errorf("revision %d, want 3", got.NextExpectedVersion)
			}
			list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything)
			if err != nil || len(list) != 1 || list[0].Event.EventNumber != 3 {
				t.Errorf("read %v, error %v", data(list), err)
			}
		})
	}
}

func TestReappendKeepsTheOtherMetadata(t *testing.T) {
	_, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(2)...)
	if _, err := c.AppendToStream(testContext(t), "$$s", esdb.AppendToStreamOptions{ExpectedRevision: esdb.Any{}},
		event("$metadata", `{"$tb":9223372036854775807,"$maxCount":2,"owner":"sales"}`)); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, c, "s", esdb.Any{}, events(3)...)
	list, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, everything)
	if diff := cmp.Diff([]string{`{"n":1}`, `{"n":2}`}, data(list)); diff != "" || err != nil {
		t.Errorf("error %v, events (-want +got):\n%s", err, diff)
	}
	meta, err := c.GetStreamMetadata(testContext(t), "s", esdb.ReadStreamOptions{Direction: esdb.Backwards, From: esdb.End{}})
	if err != nil {
		t.Fatal(err)
	}
	if *meta.TruncateBefore() != 2 || *meta.MaxCount() != 2 || meta.CustomProperty("owner") != "sales" {
		t.Errorf("metadata %+v", meta)
	}
}

// A delete and the append that undoes it may share one group commit: the append must
// merge the metadata of the delete although that is not in the store yet.
func TestMetadataMergeSeesTheSameGroup(t *testing.T) {
	s, w := manualWriter(t, t.TempDir())
	commitGroup(w,
		&request{op: opAppend, stream: "s", expected: expectNoStream, events: proposals("s", 2)},
		&request{op: opAppend, stream: "$$s", expected: expectAny, events: []proposed{newProposed("$$s", newID(t), "$metadata", true,
			[]byte(`{"$tb":9223372036854775807,"owner":"sales"}`), nil)}},
		&request{op: opAppend, stream: "s", expected: expectAny, events: proposals("s", 1)},
	)
	st, err := s.syncedState(testContext(t), "$$s")
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	if err := s.scanStream(st, st.last, st.last, forwards, func(rec record) (bool, error) {
		last, err = eventData(rec.body)
		return false, err
	}); err != nil {
		t.Fatal(err)
	}
	if want := `{"$tb":2,"owner":"sales"}`; string(last) != want {
		t.Errorf("metadata %s, want %s", last, want)
	}
}

func TestDeleteOfAStreamThatNeverWas(t *testing.T) {
	_, c := fresh(t)
	_, err := c.DeleteStream(testContext(t), "never", esdb.DeleteStreamOptions{ExpectedRevision: esdb.StreamExists{}})
	wantCode(t, err, esdb.ErrorCodeUnknown)
	mustDelete(t, c, "never", esdb.Any{})
	_, err = readStream(t, c, "never", esdb.ReadStreamOptions{}, 1)
	wantCode(t, err, esdb.ErrorCodeResourceNotFound)
	mustAppend(t, c, "never", esdb.NoStream{}, event("tested", "{}"))
	if list, err := readStream(t, c, "never", esdb.ReadStreamOptions{}, everything); err != nil || len(list) != 1 {
		t.Errorf("read %d events, error %v", len(list), err)
	}
}

func TestTombstonedStreamIsGoneForEver(t *testing.T) {
	dir := t.TempDir()
	n := openNode(t, dir)
	c := connect(t, n)
	mustAppend(t, c, "s", esdb.NoStream{}, events(2)...)
	if _, err := c.TombstoneStream(testContext(t), "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Revision(1)}); err != nil {
		t.Fatal(err)
	}
	check := func(c *esdb.Client) {
		t.Helper()
		_, err := readStream(t, c, "s", esdb.ReadStreamOptions{}, 1)
		wantCode(t, err, esdb.ErrorCodeStreamDeleted)
		for _, expected := range []esdb.ExpectedRevision{esdb.Any{}, esdb.NoStream{}, esdb.StreamExists{}, esdb.Revision(1)} {
			_, err = c.AppendToStream(testContext(t), "s", esdb.AppendToStreamOptions{ExpectedRevision: expected}, event("tested", "{}"))
			wantCode(t, err, esdb.ErrorCodeStreamDeleted)
		}
		_, err = c.DeleteStream(testContext(t), "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Any{}})
		wantCode(t, err, esdb.ErrorCodeStreamDeleted)
		_, err = c.TombstoneStream(testContext(t), "s", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}})
		wantCode(t, err, esdb.ErrorCodeStreamDeleted)
	}
	check(c)
	all := readAll(t, c, esdb.ReadAllOptions{Direction: esdb.Backwards, From: esdb.End{}}, 1)
	if all[0].Event.EventType != "$streamDeleted" || all[0].Event.StreamID != "s" {
		t.Errorf("the last event is %+v", all[0].Event)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	check(connect(t, openNode(t, dir)))
}

func TestDeleteAtTheWrongRevisionNamesBoth(t *testing.T) {
	n, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(3)...)
	_, err := c.DeleteStream(testContext(t), "s", esdb.DeleteStreamOptions{ExpectedRevision: esdb.Revision(1)})
	wantCode(t, err, esdb.ErrorCodeUnknown)
	var own *esdb.Error
	if !errors.As(err, &own) || !strings.Contains(err.Error(), "Expected version: 1, Actual version: 2") {
		t.Errorf("error %v", err)
	}

	raw := streams.NewStreamsClient(dial(t, n))
	id := &shared.StreamIdentifier{StreamName: []byte("s")}
	calls := map[string]func(trailer *metadata.MD) error{
		"delete": func(trailer *metadata.MD) error {
			_, err := raw.Delete(testContext(t), &streams.DeleteReq{Options: &streams.DeleteReq_Options{
				StreamIdentifier: id, ExpectedStreamRevision: &streams.DeleteReq_Options_NoStream{NoStream: &shared.Empty{}},
			}}, grpc.Trailer(trailer))
			return err
		},
		"tombstone": func(trailer *metadata.MD) error {
			_, err := raw.Tombstone(testContext(t), &streams.TombstoneReq{Options: &streams.TombstoneReq_Options{
				StreamIdentifier: id, ExpectedStreamRevision: &streams.TombstoneReq_Options_NoStream{NoStream: &shared.Empty{}},
			}}, grpc.Trailer(trailer))
			return err
		},
	}
	for name, call := range calls {
		var trailer metadata.MD
		if err := call(&trailer); status.Code(err) != codes.FailedPrecondition {
			t.Errorf("%s: error %v, want FailedPrecondition", name, err)
		}
		for key, want := range map[string]string{
			"exception": "wrong-expected-version", "stream-name": "s", "expected-version": "-1", "actual-version": "2",
		} {
			if got := trailer.Get(key); len(got) != 1 || got[0] != want {
				t.Errorf("%s: trailer %s is %q, want %q", name, key, got, want)
			}
		}
	}
}

func TestDeleteWithoutAnExpectedRevisionIsRefused(t *testing.T) {
	n, c := fresh(t)
	mustAppend(t, c, "s", esdb.NoStream{}, events(1)...) // at revision 0, the zero value
	_, err := streams.NewStreamsClient(dial(t, n)).Delete(testContext(t), &streams.DeleteReq{Options: &streams.DeleteReq_Options{
		StreamIdentifier: &shared.StreamIdentifier{StreamName: []byte("s")},
	}})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("error %v, want InvalidArgument", err)
	}
}

func TestTombstoneWithANameThatIsNotASCII(t *testing.T) {
	_, c := fresh(t)
	if _, err := c.TombstoneStream(testContext(t), "größe-1", esdb.TombstoneStreamOptions{ExpectedRevision: esdb.Any{}}); err != nil {
		t.Fatal(err)
	}
	_, err := readStream(t, c, "größe-1", esdb.ReadStreamOptions{}, 1)
	wantCode(t, err, esdb.ErrorCodeStreamDeleted)
}
