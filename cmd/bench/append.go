package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

const (
	writers       = 64                     // of parts a and b
	streamLength  = 100                    // events that one writer puts into a stream before it begins another
	syncWrite     = 1 << 10                // bytes written before each sync of the disk
	warmUp        = 500 * time.Millisecond // of load that is not counted
	groupedEvents = 10                     // of the larger appends
)

// appendRig is an embedded node with two ways to it, and writers that append to it.
type appendRig struct {
	node    *esnode.Node
	client  *eventlog.ESDB // a call of the official client for each append: what everything else is compared with
	batched *eventlog.ESDB // as the server appends: over one call of BatchAppend
	sample  eventlog.NewEvent
	streams []appendStream // by writer
}

type appendStream struct {
	name string
	next uint64
}

// newAppendRig starts a node in a folder.
func (b *bench) newAppendRig(ctx context.Context, name string) (*appendRig, error) {
	dir, err := b.folder(name)
	if err != nil {
		return nil, err
	}
	node, err := esnode.Open(ctx, esnode.Options{Dir: dir, Logger: quiet})
	if err != nil {
		return nil, err
	}
	client, err := eventlog.Dial(ctx, node.ConnectionString(), eventlog.WithLogger(quiet), eventlog.WithoutBatchAppend())
	if err != nil {
		return nil, errors.Join(err, node.Close())
	}
	batched, err := eventlog.Dial(ctx, node.ConnectionString(), eventlog.WithLogger(quiet))
	if err != nil {
		return nil, errors.Join(err, client.Close(), node.Close())
	}
	sample, err := sampleEvent()
	return &appendRig{node: node, client: client, batched: batched, sample: sample, streams: make([]appendStream, writers)}, err
}

func (r *appendRig) Close() error {
	return errors.Join(r.client.Close(), r.batched.Close(), r.node.Close())
}

// sampleEvent is an event of the size that commands write.
func sampleEvent() (eventlog.NewEvent, error) {
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		return eventlog.NewEvent{}, err
	}
	id := uuid.NewString()
	event := customer.Aggregate.Definition().Events[0].Example
	data, metadata, err := registry.Encode(domain.Pending{ID: id, Event: event, Metadata: domain.Metadata{
		Tenant: domain.DefaultTenant, Actor: domain.Actor{ID: "anonymous", Kind: domain.ActorHuman},
		CorrelationID: id, CausationID: id, CommandID: id, Fingerprint: "0123456789abcdef0123456789abcdef",
		OccurredAt: time.Now().UTC(), RecordedAt: time.Now().UTC(), Subjects: []domain.ID{domain.ID(id)},
	}})
	return eventlog.NewEvent{Type: event.EventType(), Data: data, Metadata: metadata}, err
}

// append appends events to the writer's stream at its exact revision.
func (r *appendRig) append(ctx context.Context, through eventlog.Log, writer, events int) error {
	s := &r.streams[writer]
	if s.next >= streamLength || s.name == "" {
		*s = appendStream{name: "main.customer-" + uuid.NewString()}
	}
	expected := domain.NoStream
	if s.next > 0 {
		expected = domain.AtRevision(s.next - 1)
	}
	batch := make([]eventlog.NewEvent, events)
	for i := range batch {
		batch[i] = r.sample
		batch[i].ID = uuid.NewString()
	}
	outcome := through.Append(ctx, s.name, expected, batch)
	done, ok := outcome.(domain.Committed)
	if !ok {
		return fmt.Errorf("append: %T %+v", outcome, outcome)
	}
	s.next = done.Revision + 1
	return nil
}

// load appends events for a time.
func (r *appendRig) load(ctx context.Context, through eventlog.Log, clients, events int, d time.Duration) (load, error) {
	return closedLoop(ctx, clients, d, func(ctx context.Context, w int) error { return r.append(ctx, through, w, events) })
}

func (b *bench) appends(ctx context.Context) (err error) {
	syncs, err := syncLoad(ctx, b.dir, time.Second)
	if err != nil {
		return err
	}
	rig, err := b.newAppendRig(ctx, "appends")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	for _, through := range []eventlog.Log{rig.client, rig.batched} {
		if _, err := rig.load(ctx, through, writers, 1, warmUp); err != nil {
			return err
		}
	}
	var single, many, batched, large load
	for range b.rounds {
		for _, m := range []struct {
			into    *load
			through eventlog.Log
			clients int
			events  int
		}{{&single, rig.client, 1, 1}, {&many, rig.client, writers, 1}, {&batched, rig.batched, writers, 1}, {&large, rig.client, writers / 4, groupedEvents}} {
			l, err := rig.load(ctx, m.through, m.clients, m.events, b.slice/2)
			if err != nil {
				return err
			}
			*m.into = m.into.join(l)
		}
	}
	t := table{head: []string{"", "per second", "p50", "p99", "ratio"}}
	line := func(name string, l load, events int) {
		perSecond := l.rate() * float64(events)
		t.add(name, rate(perSecond), millis(l.quantile(.5)), millis(l.quantile(.99)), fmt.Sprintf("%.2f per sync", perSecond/syncs.rate()))
	}
	line(fmt.Sprintf("fdatasync of the disk, %d bytes each", syncWrite), syncs, 1)
	line("appends of one event, 1 writer", single, 1)
	line(fmt.Sprintf("appends of one event, %d writers", writers), many, 1)
	line(fmt.Sprintf("appends of one event, %d writers, over BatchAppend", writers), batched, 1)
	line(fmt.Sprintf("events in appends of %d, %d writers", groupedEvents, writers/4), large, groupedEvents)
	t.print(b.out)
	fmt.Fprintf(b.out, "\nEach append is acknowledged after a sync, over loopback; through the official client, which makes a call for each, unless it says BatchAppend, which the server uses. "+
		"An event has %d bytes, metadata included.\n",
		len(rig.sample.Data)+len(rig.sample.Metadata))
	return nil
}

// syncLoad measures the disk alone.
func syncLoad(ctx context.Context, dir string, d time.Duration) (load, error) {
	file, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return load{}, err
	}
	defer file.Close()
	block := make([]byte, syncWrite)
	return closedLoop(ctx, 1, d, func(context.Context, int) error {
		if _, err := file.Write(block); err != nil {
			return err
		}
		return syncData(file)
	})
}
