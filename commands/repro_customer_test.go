package commands_test

import (
	"errors"
	"testing"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// D3: TestReproTwoMergesOfOneDuplicate: two people merge the same duplicate into two customers at once, through two processes
// that both know it unmerged. One merge goes through; the other used to leave a Merged event behind in the second customer
// although it was refused.
func TestReproTwoMergesOfOneDuplicate(t *testing.T) {
	w := newWorld()
	bus := func() *commands.Bus {
		b := commands.NewBus(w.store, commands.Options{Clock: w.clock.Now, Secret: []byte("test")})
		areas.Register(b)
		return b
	}
	here, there := bus(), bus()
	var ids []domain.ID
	for _, key := range []string{"a", "b", "d"} {
		ids = append(ids, submit(t, here, request(key, "", customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Acme"}})).ID)
	}
	first, second, duplicate := ids[0], ids[1], ids[2]
	for _, id := range ids { // there knows them all, unmerged
		submit(t, there, request("tag "+string(id), id, customer.Tag{Tag: "known"}))
	}
	submit(t, here, request("m1", first, customer.Merge{DuplicateID: duplicate}))
	_, err := there.Submit(t.Context(), request("m2", second, customer.Merge{DuplicateID: duplicate}))
	var taken *domain.DuplicateError
	var no *domain.Rejection
	if !errors.As(err, &taken) && !errors.As(err, &no) {
		t.Errorf("the second merge: %v", err)
	}
	stream := w.store.stream(domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "customer", ID: second})
	for _, e := range stream {
		if e.Type() == "customer.merged" {
			t.Errorf("the merge was refused and left %s", e.Type())
		}
	}
}

// A8: TestReproEmptiedIsNotLeftOut: a key is used again with a body that leaves a field as it is, where the first one emptied
// it. The two used to have one fingerprint, and the second was answered the receipt of the first.
func TestReproEmptiedIsNotLeftOut(t *testing.T) {
	w := newWorld()
	b := commands.NewBus(w.store, commands.Options{Clock: w.clock.Now, Secret: []byte("test")})
	areas.Register(b)
	id := submit(t, b, request("r", "", customer.Register{Kind: customer.Company, Profile: customer.Profile{Name: "Acme", Website: "https://acme.example"}})).ID
	submit(t, b, request("u", id, customer.UpdateProfile{LegalName: new("Acme Limited"), Website: new("")}))
	_, err := b.Submit(t.Context(), request("u", id, customer.UpdateProfile{LegalName: new("Acme Limited")}))
	var reused *domain.IdempotencyError
	if !errors.As(err, &reused) {
		t.Errorf("another body: %v", err)
	}
}

// A01: TestReproHierarchyThroughDuplicates: a survivor stands for its duplicates in the hierarchy, too. A company could absorb
// the company above it, and be put under one that belongs to a duplicate of it: it then stood above itself.
func TestReproHierarchyThroughDuplicates(t *testing.T) {
	d := newDesk(t)
	top, middle, bottom, twin := d.company("Top"), d.company("Middle"), d.company("Bottom"), d.company("Top again")
	d.do(middle, customer.SetParent{ParentID: twin})
	d.do(bottom, customer.SetParent{ParentID: middle})
	d.rejected(middle, customer.Merge{DuplicateID: twin}, "merge-with-ancestor", "/duplicateId")
	d.rejected(bottom, customer.Merge{DuplicateID: twin}, "merge-with-ancestor", "/duplicateId")
	d.do(top, customer.Merge{DuplicateID: twin})
	d.rejected(top, customer.SetParent{ParentID: bottom}, "hierarchy-cycle", "/parentId")
	d.rejected(bottom, customer.Merge{DuplicateID: top}, "merge-with-ancestor", "/duplicateId")
	d.do(middle, customer.Merge{DuplicateID: bottom}) // the other way round
}
