package esnode

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
)

// benchWriters is how many clients' requests are under way at once.
const benchWriters = 64

// BenchmarkAppend is durable appends of one event each by many writers to many
// streams, through the client; client and server share the machine.
func BenchmarkAppend(b *testing.B) {
	_, c := fresh(b)
	list := event("customer.registered", `{"name":"Ada Lovelace","email":"ada@example.org","region":"west","note":"`+fmt.Sprintf("%0200d", 7)+`"}`)
	ctx := b.Context()
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	for range benchWriters {
		group.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				e := list
				e.EventID = newID(b)
				_, err := c.AppendToStream(ctx, fmt.Sprintf("main.customer-%d", i), esdb.AppendToStreamOptions{ExpectedRevision: esdb.NoStream{}}, e)
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// BenchmarkAppendInProcess is the same without gRPC.
func BenchmarkAppendInProcess(b *testing.B) {
	n := openNode(b, b.TempDir())
	ctx := b.Context()
	payload := fmt.Appendf(nil, `{"name":"Ada Lovelace","note":"%0200d"}`, 7)
	var next atomic.Int64
	var group sync.WaitGroup
	b.ResetTimer()
	for range benchWriters {
		group.Go(func() {
			for {
				i := next.Add(1)
				if i > int64(b.N) {
					return
				}
				stream := fmt.Sprintf("main.customer-%d", i)
				if _, err := n.store.append(ctx, stream, expectNoStream, []proposed{newProposed(stream, newID(b), "customer.registered", true, payload, nil)}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "appends/s")
}

// benchLog is a node with many events of an ordinary size.
func benchLog(b *testing.B, total int) *esdb.Client {
	b.Helper()
	_, c := fresh(b)
	const each = 500
	for i := 0; i < total; i += each {
		list := make([]esdb.EventData, each)
		for j := range list {
			list[j] = event("customer.registered", fmt.Sprintf(`{"name":"Ada Lovelace","note":"%0200d"}`, j))
		}
		mustAppend(b, c, fmt.Sprintf("main.customer-%d", i), esdb.NoStream{}, list...)
	}
	return c
}

const benchEvents = 50_000

// BenchmarkReadAll reads the whole log once per iteration.
func BenchmarkReadAll(b *testing.B) {
	c := benchLog(b, benchEvents)
	b.ResetTimer()
	for range b.N {
		s, err := c.ReadAll(b.Context(), esdb.ReadAllOptions{}, everything)
		if err != nil {
			b.Fatal(err)
		}
		for {
			if _, err = s.Recv(); err != nil {
				break
			}
		}
		if !errors.Is(err, io.EOF) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchEvents/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkSubscribeToAll catches up with the whole log once per iteration.
func BenchmarkSubscribeToAll(b *testing.B) {
	c := benchLog(b, benchEvents)
	b.ResetTimer()
	for range b.N {
		sub, err := c.SubscribeToAll(b.Context(), esdb.SubscribeToAllOptions{From: esdb.Start{}, Filter: excludeSystem})
		if err != nil {
			b.Fatal(err)
		}
		for {
			message := sub.Recv()
			if message.SubscriptionDropped != nil {
				b.Fatal(message.SubscriptionDropped.Error)
			}
			if message.CaughtUp != nil {
				break
			}
		}
		if err := sub.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)*benchEvents/b.Elapsed().Seconds(), "events/s")
}
