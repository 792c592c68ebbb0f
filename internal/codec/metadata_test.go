package codec

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
)

// What is written by hand is what the JSON package makes of the declared form, faults included.
func TestMetadataIsWrittenAsDeclared(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.SampledFrom([]string{"a\"b\\c\n\x00\u2028<>&", "\xff", "ok"}))
		some := func(name string) string { return text.Draw(t, name) }
		at := func(name string) time.Time {
			zone := time.FixedZone("", rapid.IntRange(-12, 12).Draw(t, name+" zone")*3600)
			return time.Unix(rapid.Int64Range(-70_000_000_000, 260_000_000_000).Draw(t, name), rapid.Int64Range(0, 1e9-1).Draw(t, name+" ns")).In(zone)
		}
		m := domain.Metadata{
			Schema:        rapid.IntRange(1, 100).Draw(t, "schema"),
			Tenant:        domain.Tenant("t" + some("tenant")),
			Actor:         domain.Actor{ID: "a" + some("actor"), Kind: domain.ActorHuman, OnBehalfOf: some("on behalf of")},
			CorrelationID: some("correlation"),
			CausationID:   some("causation"),
			CommandID:     some("command"),
			Fingerprint:   some("fingerprint"),
			OccurredAt:    at("occurred"),
			RecordedAt:    at("recorded"),
			TraceParent:   some("trace"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "subjects") {
			m.Subjects = append(m.Subjects, domain.ID(some("subject")))
		}
		got, err := encodeMetadata(m)
		want, wantErr := json.Marshal(metadata{
			Schema: m.Schema, Tenant: m.Tenant, Actor: m.Actor, CorrelationID: m.CorrelationID, CausationID: m.CausationID,
			CommandID: m.CommandID, Fingerprint: m.Fingerprint, OccurredAt: m.OccurredAt.UTC(), RecordedAt: m.RecordedAt.UTC(),
			Subjects: m.Subjects, TraceParent: m.TraceParent,
		})
		if (err == nil) != (wantErr == nil) || err == nil && string(got) != string(want) {
			t.Errorf("got  %s, %v\nwant %s, %v", got, err, want, wantErr)
		}
	})
}

func BenchmarkEncodeMetadata(b *testing.B) {
	m := domain.Metadata{
		Schema: 1, Tenant: "main", Actor: domain.Actor{ID: "anonymous", Kind: domain.ActorHuman},
		CorrelationID: "01900000-0000-7000-8000-000000000001", CausationID: "01900000-0000-7000-8000-000000000002",
		CommandID: "01900000-0000-7000-8000-000000000002", Fingerprint: "127730089b93795622df7c91860f5107",
		OccurredAt: time.Unix(1e9, 1e6), RecordedAt: time.Unix(1e9, 1e6), Subjects: []domain.ID{"01900000-0000-7000-8000-000000000003"},
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encodeMetadata(m); err != nil {
			b.Fatal(err)
		}
	}
}
