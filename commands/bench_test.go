package commands_test

import (
	"fmt"
	"testing"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// The benchmarks show what the bus itself costs: the store is in memory.

func BenchmarkCreate(b *testing.B) {
	bus := newWorld().crm()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		submit(b, bus, request(fmt.Sprint("k", i), "", customer.Register{
			Kind: customer.Person, Profile: customer.Profile{Name: "Ann", Address: customer.Address{Country: "DE"}},
		}))
	}
}

func BenchmarkCreateUnique(b *testing.B) {
	bus := newWorld().crm()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		submit(b, bus, request(fmt.Sprint("k", i), "", customer.Register{
			Kind: customer.Person, Profile: customer.Profile{Name: "Ann", Email: fmt.Sprint("ann", i, "@acme.example")},
		}))
	}
}

func BenchmarkChange(b *testing.B) {
	bus := newWorld().crm()
	ids := make([]domain.ID, 100)
	for i := range ids {
		ids[i] = submit(b, bus, request(fmt.Sprint("c", i), "", customer.Register{Kind: customer.Person, Profile: customer.Profile{Name: "Ann"}})).ID
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		submit(b, bus, request(fmt.Sprint("k", i), ids[i%len(ids)], customer.UpdateProfile{Name: new(fmt.Sprint("Ann ", i))}))
	}
}

func BenchmarkDryRun(b *testing.B) {
	bus := newWorld().crm()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bus.Submit(b.Context(), commands.Request{
			Tenant: domain.DefaultTenant, Actor: ada, DryRun: true,
			Command: customer.Register{Kind: customer.Person, Profile: customer.Profile{Name: "Ann"}},
		}); err != nil {
			b.Fatal(err)
		}
	}
}
