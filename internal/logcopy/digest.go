package logcopy

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"iter"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// sum is a SHA-256.
type sum = [sha256.Size]byte

// Digest is what is proved of a log: how many events it holds, and a hash over each stream and over all of them. The hash of
// a stream is over revision, id, type, data and metadata of its events; that of the log is over all events and the names of
// their streams, in the order of the log. Positions are not part of it: they differ from engine to engine.
//
// Invariant: the events of each stream were added without a gap, from revision 0 on.
type Digest struct {
	events  uint64
	log     sum
	streams map[string]*streamSum

	hasher hash.Hash // used for one sum after the other
	buffer []byte
}

// streamSum is the part of a digest that is about one stream.
type streamSum struct {
	events uint64
	sum    sum
}

func newDigest() *Digest {
	return &Digest{streams: map[string]*streamSum{}, hasher: sha256.New()}
}

// add takes up the next event of the log. It returns an error that wraps domain.ErrCorrupt for an event that does not follow
// the one before in its stream.
func (d *Digest) add(raw codec.Raw) error {
	stream := d.streams[raw.Stream]
	if stream == nil {
		stream = &streamSum{}
		d.streams[raw.Stream] = stream
	}
	if raw.Revision != stream.events {
		return fmt.Errorf("stream %s: revision %d stands where %d should: %w", raw.Stream, raw.Revision, stream.events, domain.ErrCorrupt)
	}
	event, err := d.sumOf(raw)
	if err != nil {
		return err
	}
	stream.sum = d.chain(stream.sum, nil, event)
	d.log = d.chain(d.log, []byte(raw.Stream), event)
	stream.events++
	d.events++
	return nil
}

// sumOf hashes one event, each of its parts behind its length.
func (d *Digest) sumOf(raw codec.Raw) (sum, error) {
	id, err := uuid.Parse(raw.ID)
	if err != nil {
		return sum{}, fmt.Errorf("stream %s, revision %d: id %q is not a UUID: %w", raw.Stream, raw.Revision, raw.ID, domain.ErrCorrupt)
	}
	b := binary.BigEndian.AppendUint64(d.buffer[:0], raw.Revision)
	b = append(b, id[:]...)
	for _, part := range [...]int{len(raw.Type), len(raw.Data), len(raw.Metadata)} {
		b = binary.BigEndian.AppendUint64(b, uint64(part))
	}
	d.buffer = append(b, raw.Type...)
	d.hasher.Reset()
	d.hasher.Write(d.buffer)
	d.hasher.Write(raw.Data)
	d.hasher.Write(raw.Metadata)
	return d.summed(), nil
}

// chain hashes the sum of what came before, a name and the sum of an event.
func (d *Digest) chain(before sum, name []byte, event sum) sum {
	b := append(d.buffer[:0], before[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(len(name)))
	b = append(b, name...)
	d.buffer = append(b, event[:]...)
	d.hasher.Reset()
	d.hasher.Write(d.buffer)
	return d.summed()
}

func (d *Digest) summed() (s sum) {
	d.hasher.Sum(s[:0])
	return s
}

// digestOf reads events to their end. Each is called after each event with the digest up to there, and may be nil.
func digestOf(events iter.Seq2[codec.Raw, error], part Part, total uint64, o Options, each func(*Digest, codec.Raw) error) (*Digest, error) {
	d := newDigest()
	tell(o, Progress{Part: part, Total: total}, 1)
	for raw, err := range events {
		if err == nil {
			err = d.add(raw)
		}
		if err == nil && each != nil {
			err = each(d, raw)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", part, err)
		}
		tell(o, Progress{Part: part, Done: d.events, Total: total}, progressEvery)
	}
	tell(o, Progress{Part: part, Done: d.events, Total: d.events, Ended: true}, 1)
	return d, nil
}

// Totals returns the counts and the hash of the whole log.
func (d *Digest) Totals() Totals {
	return Totals{Events: d.events, Streams: uint64(len(d.streams)), Hash: hex.EncodeToString(d.log[:])}
}

// Totals are the digest of a log in short.
type Totals struct {
	Events  uint64 `json:"events"`
	Streams uint64 `json:"streams"`
	Hash    string `json:"hash"` // SHA-256 over all events in the order of the log
}

// StreamDigest is the digest of one stream.
type StreamDigest struct {
	Stream string `json:"stream"`
	Events uint64 `json:"events"`
	Hash   string `json:"hash"`
}

// Streams returns the digests of all streams, in the order of their names.
func (d *Digest) Streams() []StreamDigest {
	all := make([]StreamDigest, 0, len(d.streams))
	for _, name := range slices.Sorted(maps.Keys(d.streams)) {
		s := d.streams[name]
		all = append(all, StreamDigest{Stream: name, Events: s.events, Hash: hex.EncodeToString(s.sum[:])})
	}
	return all
}

// Difference is a stream that two logs do not hold alike, with how many events of it each holds.
type Difference struct {
	Stream   string `json:"stream"`
	From, To uint64
}

// difference returns up to limit streams that differ, in the order of their names, and how many there are.
func difference(from, to *Digest, limit int) (first []Difference, count int) {
	for name, s := range from.streams {
		if t := to.streams[name]; t == nil || *t != *s {
			first = append(first, Difference{Stream: name, From: s.events, To: to.count(name)})
		}
	}
	for name, t := range to.streams {
		if from.streams[name] == nil {
			first = append(first, Difference{Stream: name, To: t.events})
		}
	}
	slices.SortFunc(first, func(a, b Difference) int { return cmp.Compare(a.Stream, b.Stream) })
	count = len(first)
	return first[:min(limit, count)], count
}

func (d *Digest) count(stream string) uint64 {
	if s := d.streams[stream]; s != nil {
		return s.events
	}
	return 0
}
