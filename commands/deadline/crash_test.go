package deadline_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/commands/deadline"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/internal/follow/followtest"
	"github.com/rapport-crm/rapport/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// briefly is how long a process that ends goes on trying: it is gone.
const briefly = time.Second

// dying is the log of a process that ends at its first append: before it is written, or before the process hears of it.
type dying struct {
	commands.EventStore
	written bool
	end     context.CancelFunc
}

func (d *dying) Append(ctx context.Context, stream domain.StreamID, expected domain.Expected, events []domain.Pending) domain.Outcome {
	defer d.end()
	if d.written {
		d.EventStore.Append(context.WithoutCancel(ctx), stream, expected, events)
	}
	return domain.Unknown{Err: errors.New("the process has ended")}
}

// A process ends before the append, between the append and its answer, or behind the answer; the rows, which lag behind, still say
// that the promises are due; and the processes after it, two at once, look at them again and again. Each promise is overdue once.
func TestNothingFiresTwiceThroughCrashes(t *testing.T) {
	for name, die := range map[string]func(store commands.EventStore, end context.CancelFunc) commands.EventStore{
		"before the append": func(s commands.EventStore, end context.CancelFunc) commands.EventStore { return &dying{s, false, end} },
		"after the append":  func(s commands.EventStore, end context.CancelFunc) commands.EventStore { return &dying{s, true, end} },
		"after the answer":  func(s commands.EventStore, _ context.CancelFunc) commands.EventStore { return s },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := followtest.SetUp(t, aggregates.All()...)
			process := func(store commands.EventStore, patience time.Duration) *commands.Bus {
				b := commands.NewBus(store, commands.Options{Secret: []byte("test"), Deadline: patience})
				areas.Register(b)
				return b
			}
			clients, lagging := process(f.Store, 0), &rows{}
			for i, tenant := range []domain.Tenant{"main", "acme"} {
				ask := func(key string, target domain.ID, c domain.Command) domain.ID {
					for {
						r, err := clients.Submit(t.Context(), commands.Request{
							Tenant: tenant, Actor: domain.Actor{ID: "ann", Kind: domain.ActorHuman}, Key: key, Target: target, Command: c,
						})
						var passing *domain.UnavailableError
						if err == nil {
							return r.ID
						} else if !errors.As(err, &passing) {
							t.Fatal(err)
						}
					}
				}
				long := domain.When{OccurredAt: time.Date(2020, 1, 1, 9, 0, 0, 0, time.UTC)}
				id := ask("customer", "", customer.Register{When: long, Kind: customer.Group, Profile: customer.Profile{Name: fmt.Sprint("Group ", i)}})
				ask("promise", id, customer.RecordCommitment{When: long, CommitmentID: "1", Text: "call", Due: "2020-01-02", By: "ann"})
				lagging.due = append(lagging.due, deadline.Due{
					Tenant: tenant, Aggregate: "customer", ID: id, What: "commitment", Key: "1", At: time.Date(2020, 1, 3, 0, 0, 0, 0, time.UTC),
				})
			}
			ctx, end := context.WithCancel(t.Context())
			defer end()
			waker(t, lagging, process(die(f.Store, end), briefly), followtest.Quiet).Wake(ctx) // it ends as it may

			overdue := func() (told map[domain.Tenant]int) {
				told = map[domain.Tenant]int{}
				for e, err := range f.Store.ReadAll(t.Context(), domain.Position{}) {
					if err != nil {
						t.Fatal(err)
					}
					if e.Type() == (customer.CommitmentOverdue{}).EventType() {
						told[e.Tenant]++
					}
				}
				return told
			}
			one, two := waker(t, lagging, process(f.Store, 0), followtest.Quiet), waker(t, lagging, process(f.Store, 0), followtest.Quiet)
			for more := 2; more > 0; {
				second := make(chan error)
				go func() { second <- two.Wake(t.Context()) }()
				if err := errors.Join(one.Wake(t.Context()), <-second); err != nil {
					t.Fatal(err)
				}
				if told := overdue(); told["main"] > 1 || told["acme"] > 1 {
					t.Fatalf("told %v", told)
				} else if told["main"] == 1 && told["acme"] == 1 {
					more-- // and once more, when there is nothing left to tell
				}
			}
		})
	}
}
