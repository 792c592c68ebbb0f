package projection

import "github.com/rapport-crm/rapport/domain"

// StreamKey is the key of a row that stands for one aggregate.
type StreamKey struct {
	Tenant domain.Tenant `db:"tenant"`
	ID     domain.ID     `db:"id"`
}

// ByStream keys rows by the stream of the event.
func ByStream(e domain.Recorded) []StreamKey { return []StreamKey{{e.Tenant, e.Stream.ID}} }

// BeginsStream reports whether an event is the first of its stream: a row that is keyed by its stream cannot be there before.
func BeginsStream[K any](_ K, e domain.Recorded) bool { return e.Revision == 0 }
