package commands_test

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/nodetest"
)

// nodeStore starts an embedded node and dials it.
func nodeStore(t testing.TB) *eventlog.Store {
	t.Helper()
	node := nodetest.Open(t, esnode.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	log, err := eventlog.Dial(t.Context(), node.ConnectionString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		t.Fatal(err)
	}
	return eventlog.NewStore(log, registry)
}

func nodeBus(store *eventlog.Store) *commands.Bus {
	b := commands.NewBus(store, commands.Options{Secret: []byte("test")})
	areas.Register(b)
	return b
}

func TestFiftyRegistrationsOfOneEmailOnTheEmbeddedNode(t *testing.T) {
	store := nodeStore(t)
	buses := []*commands.Bus{nodeBus(store), nodeBus(store)} // two processes over one log
	var wg sync.WaitGroup
	receipts, errs := make([]commands.Receipt, 50), make([]error, 50)
	for i := range receipts {
		wg.Go(func() {
			receipts[i], errs[i] = buses[i%2].Submit(t.Context(), request(fmt.Sprint("k", i), "", customer.Register{
				Kind: customer.Person, Profile: customer.Profile{Name: fmt.Sprint("Ann ", i), Email: "ann@acme.example"},
			}))
		})
	}
	wg.Wait()
	var winner domain.ID
	for i, err := range errs {
		if err == nil && winner != "" {
			t.Errorf("%s and %s won", winner, receipts[i].ID)
		}
		if err == nil {
			winner = receipts[i].ID
		}
	}
	for _, err := range errs {
		if err != nil {
			duplicateOf(t, err, "email", winner)
		}
	}
}

func TestCommandsOnTheEmbeddedNode(t *testing.T) {
	store := nodeStore(t)
	here, there := nodeBus(store), nodeBus(store)
	if err := here.Prime(t.Context(), domain.DefaultTenant); err != nil {
		t.Fatal(err)
	}
	acme := submit(t, here, request("k1", "", customer.Register{
		Kind: customer.Company, Profile: customer.Profile{Name: "Acme", Email: "a@acme.example", Phone: "+493012345678"},
	}))
	deal := submit(t, here, request("k2", "", opportunity.Open{
		Name: "Deal", Owner: "bob", CustomerID: acme.ID, Amount: new(domain.MustMoney("1.500", "EUR")),
	}))
	won := submit(t, here, request("k3", deal.ID, opportunity.Win{}))
	if !acme.Position.Before(deal.Position) || !deal.Position.Before(won.Position) || won.Revision != 1 {
		t.Errorf("positions %s, %s, %s; revision %d", acme.Position, deal.Position, won.Position, won.Revision)
	}

	// Another process finds every command by its key, with the same receipt, and the same state.
	for _, again := range []struct {
		request commands.Request
		first   commands.Receipt
	}{
		{request("k3", deal.ID, opportunity.Win{}), won},
		{request("k2", "", opportunity.Open{
			Name: "Deal", Owner: "bob", CustomerID: acme.ID, Amount: new(domain.MustMoney("1.500", "EUR")),
		}), deal},
	} {
		got := submit(t, there, again.request)
		again.first.Replayed = true
		if diff := cmp.Diff(again.first, got); diff != "" {
			t.Error(diff)
		}
	}
	if _, err := there.Submit(t.Context(), request("k3", deal.ID, opportunity.Win{Note: "other"})); err == nil {
		t.Error("the key was accepted for another body")
	}
	ours, _, err1 := here.State(t.Context(), domain.DefaultTenant, "opportunity", deal.ID)
	theirs, _, err2 := there.State(t.Context(), domain.DefaultTenant, "opportunity", deal.ID)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(theirs, ours, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the state kept in memory is not what the log says:\n%s", diff)
	}

	// Two processes take turns on one stream: every append of one makes the other's cache stale.
	const each = 40
	var wg sync.WaitGroup
	for i, b := range []*commands.Bus{here, there} {
		wg.Go(func() {
			for n := range each {
				submit(t, b, request(fmt.Sprint("tag", i, n), acme.ID, customer.Tag{Tag: fmt.Sprint("tag ", i, n)}))
			}
		})
	}
	wg.Wait()
	if s, revision, err := here.State(t.Context(), domain.DefaultTenant, "customer", acme.ID); err != nil || revision != 2*each || len(s.(customer.Customer).Tags) != 2*each {
		t.Errorf("%d events, %v: %v", revision+1, s, err)
	}
}
