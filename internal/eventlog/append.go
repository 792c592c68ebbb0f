package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
)

// Append implements Log.
func (l *ESDB) Append(ctx context.Context, stream string, expected domain.Expected, events []NewEvent) domain.Outcome {
	batch, err := batchOf(stream, events)
	if err != nil {
		return domain.Refused{Err: fmt.Errorf("%s: %w", appendTo(stream, expected), err)}
	}
	s, err := l.space(ctx)
	if err != nil {
		return unsuccessful(ctx, appendTo(stream, expected), err) // nothing was sent, and the log may answer later
	}
	name, err := s.stream(stream)
	if err != nil {
		return domain.Refused{Err: fmt.Errorf("%s: %w", appendTo(stream, expected), err)}
	}
	return l.append(ctx, name, expected, batch)
}

// appendTo says in an error what was being done.
func appendTo(stream string, expected domain.Expected) string {
	return fmt.Sprintf("append to %s at %s", stream, expected)
}

// append is Append under the name by which the log knows the stream.
func (l *ESDB) append(ctx context.Context, stream string, expected domain.Expected, batch []esdb.EventData) domain.Outcome {
	newest := l.newest.Load()
	committed, err := l.write(ctx, stream, expected, batch)
	if err != nil {
		return l.notAppended(ctx, stream, expected, err)
	}

	// The expectation was exact, so the last revision is known without the answer. A node that answers another one did
	// something else than was asked.
	next, exists := expected.Revision()
	if !exists {
		next = 0
	} else {
		next++
	}
	revision := next + uint64(len(batch)) - 1
	if committed.Revision != revision {
		return domain.Unknown{Err: fmt.Errorf("%s: the log answered revision %d, want %d", appendTo(stream, expected), committed.Revision, revision)}
	}
	if newest == 0 || committed.Position.Commit <= newest {
		return l.repeated(ctx, stream, expected, batch, committed, newest == 0)
	}
	l.saw(committed.Position)
	return committed
}

// write sends an append and returns what the log answered. An error does not say that nothing was written.
func (l *ESDB) write(ctx context.Context, stream string, expected domain.Expected, batch []esdb.EventData) (domain.Committed, error) {
	if !l.unbatched.Load() {
		committed, err := l.appendBatched(ctx, stream, expected, batch)
		if status.Code(err) != codes.Unimplemented {
			return committed, err
		}
		l.unbatched.Store(true)
	}
	options := esdb.AppendToStreamOptions{
		ExpectedRevision: expectedRevision(expected),
		Deadline:         &l.timing.append,
		RequiresLeader:   true,
	}
	result, err := call(ctx, l, l.timing.append, func(ctx context.Context, c *esdb.Client) (*esdb.WriteResult, error) {
		return c.AppendToStream(leading(ctx), stream, options, batch...)
	})
	if err != nil {
		return domain.Committed{}, err
	}
	position := positionOf(esdb.Position{Commit: result.CommitPosition, Prepare: result.PreparePosition})
	return domain.Committed{Revision: result.NextExpectedVersion, Position: position}, nil
}

// saw remembers the newest position that the log has told of. What is appended from now on stands beyond it. Before the
// first one nothing is known, and every answer is looked at.
func (l *ESDB) saw(position domain.Position) {
	for {
		newest := l.newest.Load()
		if position.Commit <= newest || l.newest.CompareAndSwap(newest, position.Commit) {
			return
		}
	}
}

// repeated looks at what stands where an append was answered that may be the repetition of an earlier one: its position
// is not beyond all that was known before it, or is missing. The node compares ids alone and answers success whatever the
// events hold, so the comparison is made here. What cannot be seen to stand there is not known to be stored: the client
// itself makes a success without a position of an answer that it does not understand. First says that this is the first answer
// of the log to this process, with which nothing can be compared.
func (l *ESDB) repeated(ctx context.Context, stream string, expected domain.Expected, batch []esdb.EventData, answer domain.Committed, first bool) domain.Outcome {
	from := answer.Revision + 1 - uint64(len(batch))
	stored, err := l.storedAt(ctx, stream, from, len(batch))
	switch {
	case err != nil && first && !answer.Position.IsZero(): // nothing speaks for a repetition, and the log says where they stand
		l.logger.DebugContext(ctx, "appended events not read", "stream", stream, "revision", answer.Revision, "err", err)
		return answer
	case err != nil:
		return domain.Unknown{Err: failure(ctx, "read what was appended to "+stream, err)}
	case len(stored) < len(batch):
		return domain.Unknown{Err: failure(ctx, appendTo(stream, expected), errNotStored)}
	}
	for i, e := range stored {
		if e.Revision != from+uint64(i) || !same(e, batch[i]) {
			l.logger.WarnContext(ctx, "append repeats the ids of other events", "stream", stream, "revision", e.Revision)
			actual, err := l.tail(ctx, stream)
			if err != nil {
				return unsuccessful(ctx, "compare what was appended to "+stream, err)
			}
			return domain.Conflict{Actual: actual, Mismatch: true}
		}
	}
	answer.Position = stored[len(stored)-1].Position
	l.saw(answer.Position)
	return answer
}

// errNotStored says that the log told of a success, and has not got the events.
var errNotStored = errors.New("the log answered success, and the events do not stand there")

// same reports whether a stored event is the one that was sent.
func same(stored codec.Raw, sent esdb.EventData) bool {
	return stored.ID == sent.EventID.String() && stored.Type == sent.EventType &&
		bytes.Equal(stored.Data, sent.Data) && bytes.Equal(stored.Metadata, sent.Metadata)
}

// notAppended says what became of an append that was not answered with success.
func (l *ESDB) notAppended(ctx context.Context, stream string, expected domain.Expected, err error) domain.Outcome {
	var wrong *wrongRevisionError
	if errors.As(err, &wrong) && wrong.told {
		return domain.Conflict{Actual: wrong.actual}
	}
	if wrong != nil || is(err, esdb.ErrorCodeWrongExpectedVersion) {
		actual, tailErr := l.tail(ctx, stream) // the client names the actual revision in a text only
		if tailErr != nil {
			return unsuccessful(ctx, appendTo(stream, expected), tailErr)
		}
		return domain.Conflict{Actual: actual}
	}
	return unsuccessful(ctx, appendTo(stream, expected), err)
}

// unsuccessful is Refused for what will not pass, Unknown for everything else.
func unsuccessful(ctx context.Context, doing string, err error) domain.Outcome {
	failed := failure(ctx, doing, err)
	if permanent(err) && !errors.Is(err, ErrClosed) {
		return domain.Refused{Err: failed}
	}
	return domain.Unknown{Err: failed}
}

// expectedRevision never makes the client's zero value, which accepts any revision.
func expectedRevision(e domain.Expected) esdb.ExpectedRevision {
	if revision, ok := e.Revision(); ok {
		return esdb.Revision(revision)
	}
	return esdb.NoStream{}
}

// batchOf checks an append and translates its events.
func batchOf(stream string, events []NewEvent) ([]esdb.EventData, error) {
	if err := checkStreamName(stream); err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, errors.New("no events")
	}
	batch, size := make([]esdb.EventData, len(events)), 0
	for i, e := range events {
		id, err := uuid.Parse(e.ID)
		if err != nil {
			return nil, fmt.Errorf("event %d: id %q is not a UUID", i, e.ID)
		}
		if e.Type == "" || strings.HasPrefix(e.Type, "$") || len(e.Type) > MaxEventTypeBytes || !utf8.ValidString(e.Type) {
			return nil, fmt.Errorf("event %d: %.80q is not an event type", i, e.Type)
		}
		size += len(e.Data) + len(e.Metadata) + 2*len(e.Type)
		batch[i] = esdb.EventData{EventID: id, EventType: e.Type, ContentType: esdb.ContentTypeJson, Data: e.Data, Metadata: e.Metadata}
	}
	if size > MaxAppendBytes {
		return nil, fmt.Errorf("%d bytes in one append, the limit is %d", size, MaxAppendBytes)
	}
	return batch, nil
}

func checkStreamName(stream string) error {
	if stream == "" || strings.HasPrefix(stream, "$") || len(stream) > MaxStreamNameBytes || !utf8.ValidString(stream) || strings.ContainsRune(stream, 0) {
		return fmt.Errorf("%.80q is not the name of a stream", stream)
	}
	return nil
}
