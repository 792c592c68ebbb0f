package logcopy

import (
	"context"
	"iter"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// A Source is a history that can be carried into a log: that of another log, or of a file. Reading it again yields the same
// events.
type Source interface {
	// Identity is that of the log whose history it is.
	Identity() eventlog.Identity
	// Expected is how many events there are, 0 when that is not known before they have been read.
	Expected() uint64
	// Agree returns an error when the digest of what was read is not what the source says of itself.
	Agree(read Totals) error
	// Events yields the events after a place in the source, in the order of the log. The zero place is before all of them. A
	// place has a meaning in this source alone. An error is the last thing yielded.
	Events(ctx context.Context, after domain.Mark) iter.Seq2[codec.Raw, error]
}

// LogSource is the history of a log up to the moment at which Open looked at it. What is appended later is not part of it, so
// that a log may be copied while it is in use.
type LogSource struct {
	log      Log
	identity eventlog.Identity
	head     domain.Mark
	pause    pause
}

// Log is what is needed of a log to read its history.
type Log interface {
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[codec.Raw, error]
	Head(ctx context.Context) (domain.Mark, error)
	Check(ctx context.Context, m domain.Mark) error
}

// Open looks at where a log stands. The identity is the one that the log was inspected to have.
func Open(ctx context.Context, log Log, identity eventlog.Identity) (*LogSource, error) {
	s := &LogSource{log: log, identity: identity, pause: wait}
	err := patiently(ctx, s.pause, func() (err error) {
		s.head, err = log.Head(ctx)
		return err
	})
	return s, err
}

// Identity implements Source.
func (s *LogSource) Identity() eventlog.Identity { return s.identity }

// NoteSecret adds to the identity of a log that was begun before logs noted it which secret reservations are named with.
func (s *LogSource) NoteSecret(check string) { s.identity.Secret = check }

// Expected implements Source: a log has to be read to be counted.
func (s *LogSource) Expected() uint64 { return 0 }

// Agree implements Source: a log says nothing of itself as a whole.
func (s *LogSource) Agree(Totals) error { return nil }

// Events implements Source. It reads on after interruptions.
func (s *LogSource) Events(ctx context.Context, after domain.Mark) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		if s.head.Position.IsZero() {
			return
		}
		for raw, err := range readOn(ctx, s.log, after, s.pause) {
			if err == nil && s.head.Position.Before(raw.Position) {
				return
			}
			if !yield(raw, err) {
				return
			}
		}
	}
}

// readOn yields the events of a log after a mark, up to the end of the log. After an interruption it checks that the last
// event still stands where it stood, and reads on behind it. An error is the last thing yielded.
func readOn(ctx context.Context, log Log, after domain.Mark, pause pause) iter.Seq2[codec.Raw, error] {
	return func(yield func(codec.Raw, error) bool) {
		last, stopped := after, false
		err := patiently(ctx, pause, func() error {
			if err := log.Check(ctx, last); err != nil {
				return err
			}
			began := last
			for raw, err := range log.ReadAll(ctx, last.Position) {
				if err != nil && last != began {
					return advanced{err}
				}
				if err != nil {
					return err
				}
				last = domain.Mark{Position: raw.Position, ID: raw.ID}
				if stopped = !yield(raw, nil); stopped {
					return nil
				}
			}
			return nil
		})
		if err != nil && !stopped {
			yield(codec.Raw{}, err)
		}
	}
}

// readSource reads a source whole. Each is called after each event with the digest up to there, and may be nil.
func readSource(ctx context.Context, from Source, o Options, each func(*Digest, codec.Raw) error) (*Digest, error) {
	d, err := digestOf(from.Events(ctx, domain.Mark{}), PartSurvey, from.Expected(), o, each)
	if err == nil {
		err = from.Agree(d.Totals())
	}
	return d, err
}

// Read reads a source whole and returns its digest. It returns an error that wraps domain.ErrCorrupt when it is damaged.
func Read(ctx context.Context, from Source, o Options) (*Digest, error) {
	return readSource(ctx, from, o, nil)
}
