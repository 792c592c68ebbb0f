// Package logcopy carries the history of one log into another: from the embedded node into a cluster, from one engine into
// another, or through a file, which is a backup as well.
//
// What is carried is every event of the namespace, with its stream, its order among all, its id, its type and both payloads
// byte for byte. Positions are the engine's and are not carried.
//
// A copy keeps these promises:
//
//  1. It goes into a namespace that is empty, or into the beginning of a copy of the same log, which it continues.
//  2. An event is appended when the one before it stands. So the copy is the beginning of the source at any time, whenever
//     the run is killed, and also when an append of a run that was killed arrives late.
//  3. A copy that is not complete is used by nobody: see eventlog.ErrUnfinishedCopy. It is complete when it has been read back
//     and every event, every stream and the order of all are those of the source.
//  4. Of two runs on one copy the later one goes on, and the earlier one ends with eventlog.ErrOtherCopy.
package logcopy

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// Bounds of a copy.
const (
	// maxBatchEvents is how many events of one stream go into one append, where they follow each other in the log.
	maxBatchEvents = 256
	// holdEvery is after how many appends a run looks whether another one has begun.
	holdEvery = 512
	// progressEvery is after how many events that were read progress is told.
	progressEvery = 256
)

var (
	// ErrOtherHistory says that what was copied before is not the beginning of the source.
	ErrOtherHistory = errors.New("what stands in the copy is not the beginning of the source")
	// ErrDisturbed says that something else writes into the copy.
	ErrDisturbed = errors.New("something else writes into the copy")
)

// Target is the log that is written.
type Target interface {
	Log
	Inspect(ctx context.Context) (eventlog.Standing, error)
	BeginCopy(ctx context.Context, origin eventlog.Identity) (*eventlog.CopyRun, error)
	Append(ctx context.Context, stream string, expected domain.Expected, events []eventlog.NewEvent) domain.Outcome
	ReadStream(ctx context.Context, stream string, from uint64) iter.Seq2[codec.Raw, error]
}

// Part is what a run is doing.
type Part string

// Parts, in their order.
const (
	PartResume  Part = "read what was copied before"
	PartSurvey  Part = "read the source"
	PartCarry   Part = "copy"
	PartConfirm Part = "read the copy back"
)

// Progress tells how far a part has come.
type Progress struct {
	Part  Part
	Done  uint64 // events
	Total uint64 // events; 0 when it is not known
	Ended bool   // the part is over
}

// Options adjust a copy.
type Options struct {
	// Progress is told from time to time how far the run has come. Nil means that nobody asks.
	Progress func(Progress)
	// LeaveOpen leaves a copy incomplete that has everything, because the source is still written to: another run carries
	// the rest.
	LeaveOpen bool

	pause pause // between repetitions; nil is wait
}

// Result is what a run has done.
type Result struct {
	Source   eventlog.Identity
	Copy     eventlog.Identity
	Carried  uint64 // events by this run
	Complete bool   // the copy may be used
	Proof    Comparison
}

// run is one run of Copy.
type run struct {
	from   Source
	to     Target
	o      Options
	claim  *eventlog.CopyRun
	copied *Digest     // of what stands in the copy
	last   domain.Mark // of what stands in the copy
	result Result
}

// Copy carries the history of a source into a log, or the rest of it when a run before was interrupted, and proves in the end
// that both are equal. A copy that is complete is compared and not written to. It returns an error that wraps
// eventlog.ErrNotEmpty, eventlog.ErrOtherCopy, ErrOtherHistory, ErrDisturbed or, for a damaged source, domain.ErrCorrupt; what
// was copied stays, for the same call to go on with.
func Copy(ctx context.Context, from Source, to Target, o Options) (Result, error) {
	if o.pause == nil {
		o.pause = wait
	}
	r := &run{from: from, to: to, o: o, copied: newDigest()}
	r.result.Source = from.Identity()
	err := r.do(ctx)
	if errors.Is(err, ErrDisturbed) && r.claim != nil {
		if held := r.claim.Hold(ctx); errors.Is(held, eventlog.ErrOtherCopy) {
			err = held // the other run is what disturbs
		}
	}
	return r.result, err
}

func (r *run) do(ctx context.Context) error {
	var standing eventlog.Standing
	err := patiently(ctx, r.o.pause, func() (err error) {
		standing, err = r.to.Inspect(ctx)
		return err
	})
	if err != nil {
		return err
	}
	origin, there := r.from.Identity(), standing.Identity
	r.result.Copy = there
	switch {
	case there.ID == "" && standing.Used:
		return fmt.Errorf("%w: there are events that are of no log", eventlog.ErrNotEmpty)
	case there.ID == "":
		return r.write(ctx, false)
	case there.ID == origin.ID:
		return fmt.Errorf("%w: it holds the log that is to be copied", eventlog.ErrNotEmpty)
	case there.Origin != origin.ID:
		return fmt.Errorf("%w: it holds the log %s, which is no copy of %s", eventlog.ErrNotEmpty, there.ID, origin.ID)
	case !standing.Unfinished:
		r.result.Proof, err = Compare(ctx, r.from, r.to, r.o)
		r.result.Complete = true
		return err
	}
	return r.write(ctx, true)
}

// write carries what the copy lacks. A source is read whole before a copy of it is begun, so that nothing is begun with one
// that is damaged.
func (r *run) write(ctx context.Context, resumed bool) error {
	if resumed {
		if err := r.begin(ctx); err != nil {
			return err
		}
		if err := r.readBack(ctx, PartResume, 0); err != nil {
			return err
		}
	}
	source, after, err := r.survey(ctx)
	if err != nil {
		return err
	}
	if !resumed {
		if err := r.begin(ctx); err != nil {
			return err
		}
	}
	if err := r.carry(ctx, after, source.events); err != nil {
		return err
	}
	if err := r.readBack(ctx, PartConfirm, source.events); err != nil {
		return err
	}
	r.result.Proof = compared(source, r.copied)
	if !r.result.Proof.Equal() {
		return fmt.Errorf("%w: %s", ErrDisturbed, r.result.Proof)
	}
	if r.o.LeaveOpen {
		return nil
	}
	totals := source.Totals()
	err = patiently(ctx, r.o.pause, func() error { return r.claim.Complete(ctx, totals.Events, totals.Hash) })
	r.result.Complete = err == nil
	return err
}

func (r *run) begin(ctx context.Context) error {
	return patiently(ctx, r.o.pause, func() (err error) {
		if r.claim, err = r.to.BeginCopy(ctx, r.from.Identity()); err == nil {
			r.result.Copy = r.claim.Identity()
		}
		return err
	})
}

// tell reports progress now and then, and when a part is over.
func (r *run) tell(p Progress, every uint64) { tell(r.o, p, every) }

func tell(o Options, p Progress, every uint64) {
	if o.Progress != nil && (p.Ended || p.Done%every == 0) {
		o.Progress(p)
	}
}

// readBack takes up what stands in the copy and has not been read yet.
func (r *run) readBack(ctx context.Context, part Part, total uint64) error {
	r.tell(Progress{Part: part, Done: r.copied.events, Total: total}, 1)
	for raw, err := range readOn(ctx, r.to, r.last, r.o.pause) {
		if err == nil {
			err = r.copied.add(raw)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
		r.last = domain.Mark{Position: raw.Position, ID: raw.ID}
		r.tell(Progress{Part: part, Done: r.copied.events, Total: total}, progressEvery)
	}
	r.tell(Progress{Part: part, Done: r.copied.events, Total: total, Ended: true}, 1)
	return nil
}

// survey reads the source. It returns the place of the last event that stands in the copy, and ErrOtherHistory when that and
// all before it are not the beginning of the source.
func (r *run) survey(ctx context.Context) (source *Digest, after domain.Mark, err error) {
	source, err = readSource(ctx, r.from, r.o, func(d *Digest, raw codec.Raw) error {
		if d.events != r.copied.events {
			return nil
		}
		after = domain.Mark{Position: raw.Position, ID: raw.ID}
		if d.log != r.copied.log {
			return fmt.Errorf("%w: the first %d events are others", ErrOtherHistory, d.events)
		}
		return nil
	})
	if err == nil && source.events < r.copied.events {
		err = fmt.Errorf("%w: the copy holds %d events, the source %d", ErrOtherHistory, r.copied.events, source.events)
	}
	return source, after, err
}

// carry appends the events of the source after a place.
func (r *run) carry(ctx context.Context, after domain.Mark, total uint64) error {
	var b batch
	appends, done := 0, r.copied.events
	r.tell(Progress{Part: PartCarry, Done: done, Total: total}, 1)
	flush := func() error {
		if len(b.events) == 0 {
			return nil
		}
		if appends++; appends%holdEvery == 0 {
			if err := r.hold(ctx); err != nil {
				return err
			}
		}
		if err := r.append(ctx, b); err != nil {
			return err
		}
		r.result.Carried += uint64(len(b.events))
		done += uint64(len(b.events))
		b.events = b.events[:0]
		r.tell(Progress{Part: PartCarry, Done: done, Total: total}, 1)
		return nil
	}
	for raw, err := range r.from.Events(ctx, after) {
		if err != nil {
			return fmt.Errorf("%s: %w", PartCarry, err)
		}
		if !b.takes(raw) {
			if err := flush(); err != nil {
				return err
			}
		}
		b.add(raw)
	}
	if err := flush(); err != nil {
		return err
	}
	r.tell(Progress{Part: PartCarry, Done: done, Total: total, Ended: true}, 1)
	return nil
}

func (r *run) hold(ctx context.Context) error {
	return patiently(ctx, r.o.pause, func() error { return r.claim.Hold(ctx) })
}

// batch are events of one stream that follow each other, to be appended at once.
type batch struct {
	stream string
	first  uint64 // revision
	size   int
	events []eventlog.NewEvent
}

// takes reports whether an event may follow those of the batch.
func (b *batch) takes(raw codec.Raw) bool {
	return len(b.events) == 0 || raw.Stream == b.stream && len(b.events) < maxBatchEvents && b.size+sizeOf(raw) <= eventlog.MaxAppendBytes
}

func (b *batch) add(raw codec.Raw) {
	if len(b.events) == 0 {
		b.stream, b.first, b.size = raw.Stream, raw.Revision, 0
	}
	b.size += sizeOf(raw)
	b.events = append(b.events, eventlog.NewEvent{ID: raw.ID, Type: raw.Type, Data: raw.Data, Metadata: raw.Metadata})
}

// sizeOf counts an event as the limit of an append does.
func sizeOf(raw codec.Raw) int { return len(raw.Data) + len(raw.Metadata) + 2*len(raw.Type) }

// append makes the events of a batch stand in the copy, however often an append is not answered.
func (r *run) append(ctx context.Context, b batch) error {
	return patiently(ctx, r.o.pause, func() error {
		expected := domain.NoStream
		if b.first > 0 {
			expected = domain.AtRevision(b.first - 1)
		}
		switch o := r.to.Append(ctx, b.stream, expected, b.events).(type) {
		case domain.Committed:
			return nil
		case domain.Refused:
			return o.Err
		case domain.Unknown:
			return o.Err
		}
		// What stands there may be of an append that seemed lost, of this run or of one that was killed, which had put the
		// events together in another way.
		stand, err := r.standing(ctx, b)
		switch {
		case err != nil:
			return err
		case stand == len(b.events):
			return nil
		case stand > 0:
			b.first, b.events = b.first+uint64(stand), b.events[stand:]
		}
		// A loser may be told before the winner shows: looked for again, it is there.
		return &domain.UnavailableError{What: "event log", Err: fmt.Errorf("stream %s: %w", b.stream, ErrDisturbed)}
	})
}

// standing returns how many events of a batch stand in the copy already. It returns ErrDisturbed when others stand there.
func (r *run) standing(ctx context.Context, b batch) (int, error) {
	n := 0
	for raw, err := range r.to.ReadStream(ctx, b.stream, b.first) {
		if err != nil {
			return 0, err
		}
		if n == len(b.events) {
			break // another run has come farther
		}
		e := b.events[n]
		if raw.ID != e.ID || raw.Type != e.Type || string(raw.Data) != string(e.Data) || string(raw.Metadata) != string(e.Metadata) {
			return 0, fmt.Errorf("stream %s, revision %d: %w", b.stream, raw.Revision, ErrDisturbed)
		}
		n++
	}
	return n, nil
}
