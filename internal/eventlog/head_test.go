package eventlog

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"

	"github.com/rapport-crm/rapport/domain"
)

// Of a log that ends in very many events of others the newest of ours takes long to find. Whoever asks and gives up, as a look
// at readiness does, does not make the next one begin anew: a server would never come to know its head. What is written while
// the search goes on is found as well.
func TestSearchForTheHeadGoesOnWhenNobodyWaits(t *testing.T) {
	searching, found := make(chan struct{}), make(chan struct{})
	var searches atomic.Int32
	var end atomic.Uint64
	end.Store(1_000_000)
	foreign := func(at uint64) *streams.ReadResp { return event("orders-1", "order.placed", 0, at, []byte(`{}`)) }
	node := &script{read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		backwards := o.GetReadDirection() == streams.ReadReq_Options_Backwards
		switch {
		case o.GetFilter() != nil && backwards:
			searches.Add(1)
			close(searching)
			<-found
			return s.Send(happened(7))
		case backwards:
			return s.Send(foreign(end.Load()))
		case o.GetFilter() != nil: // from where the search ended
			return s.Send(happened(end.Load() - 1))
		}
		return s.Send(foreign(o.GetAll().GetPosition().GetCommitPosition()))
	}}
	log := dial(t, node.start(t))
	impatient, giveUp := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := log.Head(impatient)
		gaveUp <- err
	}()
	<-searching
	giveUp()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	end.Store(2_000_000)
	heads := make(chan domain.Mark)
	for range 2 {
		go func() {
			m, err := log.Head(t.Context())
			if err != nil {
				t.Error(err)
			}
			heads <- m
		}()
	}
	close(found)
	for range 2 {
		if m := <-heads; m.Position != at(1_999_999) {
			t.Errorf("the head is %s, want what was written since", m.Position)
		}
	}
	if n := searches.Load(); n != 1 {
		t.Errorf("%d searches, want the one that was under way", n)
	}
}

// A log that is closed ends the search.
func TestCloseEndsTheSearchForTheHead(t *testing.T) {
	searching := make(chan struct{})
	node := &script{read: func(o *streams.ReadReq_Options, s streams.Streams_ReadServer) error {
		if o.GetFilter() != nil {
			close(searching)
			return hang(s)
		}
		return s.Send(event("orders-1", "order.placed", 0, 9, []byte(`{}`)))
	}}
	log := dial(t, node.start(t))
	asked := make(chan error)
	go func() {
		_, err := log.Head(t.Context())
		asked <- err
	}()
	<-searching
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-asked; err == nil {
		t.Error("a head of a closed log")
	}
}
