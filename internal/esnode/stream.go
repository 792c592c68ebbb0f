package esnode

import (
	"encoding/binary"
	"encoding/json"
	"strings"
	"time"
)

// streamState is all an append has to know about a stream.
type streamState struct {
	id         uint64 // 0: no event was ever written
	last       int64  // last revision, noRevision without events
	changed    uint64 // position of the last event that changed this state
	tombstoned bool
	limits     streamLimits
}

// streamLimits is the part of a stream's metadata that decides what of it can be read.
type streamLimits struct {
	truncateBefore int64         // first readable revision; deletedRevision: soft-deleted
	maxCount       int64         // 0: no limit
	maxAge         time.Duration // 0: no limit
}

func (st streamState) softDeleted() bool { return st.limits.truncateBefore == deletedRevision }

// first is the lowest revision that may be read. It may exceed last.
func (st streamState) first() int64 {
	first := st.limits.truncateBefore
	if st.limits.maxCount > 0 {
		first = max(first, st.last-st.limits.maxCount+1)
	}
	return first
}

func appendState(dst []byte, st streamState) []byte {
	var flags byte
	if st.tombstoned {
		flags |= flagTombstone
	}
	dst = append(dst, stateFormat, flags)
	for _, v := range [...]uint64{
		st.id, uint64(st.last), st.changed,
		uint64(st.limits.truncateBefore), uint64(st.limits.maxCount), uint64(st.limits.maxAge),
	} {
		dst = binary.BigEndian.AppendUint64(dst, v)
	}
	return dst
}

func decodeState(b []byte) (streamState, error) {
	if len(b) != stateSize || b[0] != stateFormat {
		return streamState{}, errCorrupt
	}
	field := func(i int) uint64 { return binary.BigEndian.Uint64(b[2+8*i:]) }
	return streamState{
		id: field(0), last: int64(field(1)), changed: field(2), tombstoned: b[1]&flagTombstone != 0,
		limits: streamLimits{
			truncateBefore: int64(field(3)), maxCount: int64(field(4)), maxAge: time.Duration(field(5)),
		},
	}, nil
}

// metadataOf returns the stream whose metadata the named stream holds.
func metadataOf(name string) (target string, ok bool) {
	return strings.CutPrefix(name, metastreamPrefix)
}

// metastreamLimits are the limits of every metadata stream: only its last event counts.
var metastreamLimits = streamLimits{maxCount: 1}

// parseLimits reads what it understands of a metadata event. As in EventStoreDB,
// metadata that is not a JSON object, or values that make no sense, limit nothing.
func parseLimits(data []byte) streamLimits {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return streamLimits{}
	}
	number := func(name string) int64 {
		var n int64
		if json.Unmarshal(fields[name], &n) != nil || n < 0 {
			return 0
		}
		return n
	}
	limits := streamLimits{truncateBefore: number("$tb"), maxCount: number("$maxCount")}
	const maxSeconds = int64(1<<63-1) / int64(time.Second)
	if seconds := number("$maxAge"); seconds <= maxSeconds {
		limits.maxAge = time.Duration(seconds) * time.Second
	}
	return limits
}

// softDeleteMetadata is the metadata event of a soft delete.
var softDeleteMetadata = []byte(`{"$tb":9223372036854775807}`)

// undeleteMetadata is metadata with everything kept but $tb, which now lets the
// events from revision first on be read.
func undeleteMetadata(metadata []byte, first int64) ([]byte, error) {
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(metadata, &fields) != nil || fields == nil {
		fields = map[string]json.RawMessage{}
	}
	tb, err := json.Marshal(first)
	if err != nil {
		return nil, err
	}
	fields["$tb"] = tb
	return json.Marshal(fields)
}
