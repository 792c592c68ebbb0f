package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/projections/runner/build"
)

// ParkedStream is a stream that a projection could not digest, in one of its tables: two may lack the same events, while one
// is built beside the other or kept for the way back. It goes with its table.
type ParkedStream struct {
	Projection string        `json:"projection"`
	Version    int           `json:"version"` // of the table that lacks the events, which may be another than this binary's
	Build      int           `json:"build"`   // number of that table within the version
	Stream     string        `json:"stream"`
	Error      string        `json:"error"`           // of the first event
	Stack      string        `json:"stack,omitempty"` // where the projection's code panicked
	ParkedAt   time.Time     `json:"parkedAt"`
	Events     []ParkedEvent `json:"events"` // in order; the first is the one that failed
}

// key names the table that lacks the events.
func (s ParkedStream) key() build.Key {
	return build.Key{Name: s.Projection, Version: s.Version, Number: s.Build}
}

// ParkedEvent is an event that waits.
type ParkedEvent struct {
	ID       string          `json:"id"`
	Type     string          `json:"type"`
	Revision uint64          `json:"revision"`
	Position domain.Position `json:"position"`
	Data     []byte          `json:"-"`
	Metadata []byte          `json:"-"`
}

const (
	parkedSQL = `select version, build, stream, error, stack, parked_at from projection.parked_stream
where name = $1 and ($2 = 0 or version = $2) and ($3 = 0 or build = $3) and ($4 = '' or stream = $4) order by parked_at, stream, version, build`
	parkedEventsSQL = `select version, build, stream, event_id, event_type, revision, commit_position, prepare_position, data, metadata
from projection.parked_event
where name = $1 and ($2 = 0 or version = $2) and ($3 = 0 or build = $3) and ($4 = '' or stream = $4) order by stream, version, build, revision`
	unparkSQL = `with events as (
		delete from projection.parked_event where name = $1 and version = $2 and build = $3 and stream = $4 returning revision),
	streams as (delete from projection.parked_stream where name = $1 and version = $2 and build = $3 and stream = $4)
insert into projection.parked_audit (name, version, build, stream, action, first_revision, last_revision, events, actor, reason)
select $1, $2, $3, $4, $5, min(revision), max(revision), count(*), $6, $7 from events having count(*) > 0`
	// bumpSQL tells the owner to read everything again, and what is halted to try again, unless its rows are not to be trusted.
	bumpSQL = `update projection.checkpoint set generation = generation + 1, problem = case when distrusted then problem else '' end
where name = $1 and version = $2 and build = $3`
	buildsSQL = `select name, version, build from projection.checkpoint where name = $1 and version = $2 order by build`
)

// Decoder is what is needed of the codec. Its errors are those of codec.Registry.
type Decoder interface {
	Decode(codec.Raw) (domain.Recorded, error)
}

// Park is what somebody decides about parked streams, from any process.
type Park struct {
	Builds *build.Keeper
	Decode Decoder
}

// Parked returns the parked streams of all tables of a projection, oldest first, with their events. It returns a
// *domain.NotFoundError for a projection that is not declared.
func (k *Park) Parked(ctx context.Context, name string) ([]ParkedStream, error) {
	if _, err := k.Builds.Find(name); err != nil {
		return nil, err
	}
	return k.parked(ctx, k.Builds.Pool, build.Key{Name: name}, "")
}

// querier is a pool or a transaction.
type querier interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
}

// parked returns parked streams of a projection. A version or build that is 0 means all, and so does an empty stream.
func (k *Park) parked(ctx context.Context, db querier, of build.Key, stream string) ([]ParkedStream, error) {
	type place struct {
		version, build int
		stream         string
	}
	var streams []ParkedStream
	index := map[place]int{}
	var b pgx.Batch
	b.Queue(parkedSQL, of.Name, of.Version, of.Number, stream).Query(func(rows pgx.Rows) error {
		s := ParkedStream{Projection: of.Name}
		_, err := pgx.ForEachRow(rows, []any{&s.Version, &s.Build, &s.Stream, &s.Error, &s.Stack, &s.ParkedAt}, func() error {
			index[place{s.Version, s.Build, s.Stream}] = len(streams)
			streams = append(streams, s)
			return nil
		})
		return err
	})
	b.Queue(parkedEventsSQL, of.Name, of.Version, of.Number, stream).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			var e ParkedEvent
			var at place
			var revision, commit, prepare int64
			if err := rows.Scan(&at.version, &at.build, &at.stream, &e.ID, &e.Type, &revision, &commit, &prepare, &e.Data, &e.Metadata); err != nil {
				return err
			}
			e.Revision, e.Position = uint64(revision), domain.Position{Commit: uint64(commit), Prepare: uint64(prepare)}
			i, ok := index[at]
			if !ok {
				continue // parked between the two queries
			}
			streams[i].Events = append(streams[i].Events, e)
		}
		return rows.Err()
	})
	if err := db.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("parked streams of %s: %w", of.Name, err)
	}
	return streams, nil
}

// Retry applies the parked events of one stream, or of every parked stream when stream is empty, in order, and returns how
// many; those that several builds lack are applied to each and counted once. A stream succeeds as a whole or stays parked as
// it is, with an error that says why. It also lets a halted projection try again. actor is who asks, for the audit.
//
// What tables of other versions lack only a binary of their version can apply: it stays parked. Where there is nothing else, the
// error is a *domain.Rejection.
//
// Rows that several streams change see the parked events after those that did not wait for them. Where a projection
// depends on the order between streams, rebuild it afterwards.
func (k *Park) Retry(ctx context.Context, name, stream, actor string) (applied int, err error) {
	c, err := k.Builds.Find(name)
	if err != nil {
		return 0, err
	}
	streams, err := k.parkedOr(ctx, c, stream)
	if err != nil || len(streams) == 0 {
		return 0, err
	}
	own := slices.DeleteFunc(slices.Clone(streams), func(s ParkedStream) bool { return s.Version != c.Version })
	if len(own) == 0 {
		other := build.Key{Name: name, Version: streams[0].Version, Number: streams[0].Build}
		return 0, domain.Reject("projection-of-another-version", "what {projection} has parked only a binary of that version can apply: discard it, or let it go with the table", other)
	}
	admitted := map[build.Key]error{}
	for _, s := range own {
		key := s.key()
		if _, asked := admitted[key]; !asked {
			admitted[key] = k.Builds.Admit(ctx, key)
		}
	}
	return k.empty(ctx, own, func(tx pgx.Tx, s ParkedStream) error {
		if err := admitted[s.key()]; err != nil {
			return err
		}
		if err := k.reapply(ctx, tx, c.Build(s.Build), s); err != nil {
			return err
		}
		return unpark(ctx, tx, s, "retried", actor, "")
	})
}

// Discard forgets the parked events of one stream, or of every parked stream when stream is empty, in all tables of the
// projection, of whatever version, and returns how many. Later events of these streams are applied again. actor and reason are
// kept for the audit.
func (k *Park) Discard(ctx context.Context, name, stream, actor, reason string) (dropped int, err error) {
	c, err := k.Builds.Find(name)
	if err != nil {
		return 0, err
	}
	streams, err := k.parkedOr(ctx, c, stream)
	if err != nil {
		return 0, err
	}
	return k.empty(ctx, streams, func(tx pgx.Tx, s ParkedStream) error {
		return unpark(ctx, tx, s, "discarded", actor, reason)
	})
}

// parkedOr returns the parked streams of all tables of a projection, all or one. One that is not parked is an error; when none
// is, what is halted tries again.
func (k *Park) parkedOr(ctx context.Context, c *projection.Compiled, stream string) ([]ParkedStream, error) {
	streams, err := k.parked(ctx, k.Builds.Pool, build.Key{Name: c.Name}, stream)
	switch {
	case err != nil || len(streams) > 0:
		return streams, err
	case stream != "":
		return nil, &domain.NotFoundError{Kind: "parked stream", ID: stream}
	}
	return nil, k.resume(ctx, c)
}

// resume lets what is halted of a projection try again. Builds whose rows come from another history stay halted, which is an
// error.
func (k *Park) resume(ctx context.Context, c *projection.Compiled) error {
	rows, err := k.Builds.Pool.Query(ctx, buildsSQL, c.Name, c.Version)
	if err != nil {
		return err
	}
	builds, err := pgx.CollectRows(rows, build.ScanKey)
	for _, key := range builds {
		if refusal := k.Builds.Admit(ctx, key); refusal != nil {
			err = errors.Join(err, refusal)
			continue
		}
		_, failed := k.Builds.Pool.Exec(ctx, bumpSQL, key.Name, key.Version, key.Number)
		err = errors.Join(err, failed)
	}
	return err
}

// empty runs work for each parked stream, each in a transaction that holds the checkpoint.
func (k *Park) empty(ctx context.Context, streams []ParkedStream, work func(pgx.Tx, ParkedStream) error) (events int, err error) {
	var failed []error
	done := map[string]int{}
	for _, s := range streams {
		key := s.key()
		err := pgx.BeginFunc(ctx, k.Builds.Pool, func(tx pgx.Tx) error {
			// The owner holds this row while it stores a batch: after it we see what it has parked.
			if _, err := tx.Exec(ctx, build.LockSQL, []string{key.Name}, []int32{int32(key.Version)}, []int32{int32(key.Number)}); err != nil {
				return err
			}
			fresh, err := k.parked(ctx, tx, key, s.Stream)
			if err != nil || len(fresh) == 0 {
				return err
			}
			if err := work(tx, fresh[0]); err != nil {
				return err
			}
			done[s.Stream] = max(done[s.Stream], len(fresh[0].Events))
			_, err = tx.Exec(ctx, bumpSQL, key.Name, key.Version, key.Number)
			return err
		})
		if err != nil {
			failed = append(failed, fmt.Errorf("stream %s of %s: %w", s.Stream, key, err))
		}
	}
	for _, n := range done {
		events += n
	}
	return events, errors.Join(failed...)
}

// reapply stores what the parked events of a stream come to now.
func (k *Park) reapply(ctx context.Context, tx pgx.Tx, c *projection.Compiled, s ParkedStream) error {
	var events []domain.Recorded
	for _, e := range s.Events {
		event, err := k.Decode.Decode(codec.Raw{ID: e.ID, Type: e.Type, Stream: s.Stream, Revision: e.Revision,
			Position: e.Position, Data: e.Data, Metadata: e.Metadata})
		if err != nil {
			return err
		}
		events = append(events, event)
	}
	engine := c.NewEngine(len(events))
	engine.Reset(false)
	step, err := engine.Begin(events)
	if err != nil {
		return err
	}
	var reads, writes pgx.Batch
	queueLoad(&reads, c.Table, step)
	if err := tx.SendBatch(ctx, &reads).Close(); err != nil {
		return err
	}
	if _, err := queueStep(&writes, c.Table, step, 0); err != nil {
		return err
	}
	return tx.SendBatch(ctx, &writes).Close()
}

func unpark(ctx context.Context, tx pgx.Tx, s ParkedStream, action, actor, reason string) error {
	_, err := tx.Exec(ctx, unparkSQL, s.Projection, s.Version, s.Build, s.Stream, action, actor, reason)
	return err
}
