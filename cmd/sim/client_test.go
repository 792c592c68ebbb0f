package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// client submits commands one after the other, and repeats those whose end it was not told.
type client struct {
	name  string
	again *commands.Request // whose end is unknown
}

// request is one attempt at a command, as its client sees it.
type request struct {
	number  int
	client  *client
	server  *server
	id      string // of the command
	asked   commands.Request
	begun   int // step
	ended   int // step; 0 while it runs
	lost    bool
	receipt commands.Receipt
	err     error

	cancel context.CancelFunc
	done   bool // the server has answered; guarded by the simulation's mutex
}

// over reports whether the client waits no longer.
func (r *request) over() bool { return r.ended > 0 }

// lose ends the request without an answer.
func (r *request) lose(step int) { r.ended, r.lost = step, true }

// unknown reports whether the client cannot know what became of the command.
func (r *request) unknown() bool {
	var away *domain.UnavailableError
	return r.lost || errors.As(r.err, &away)
}

func (r *request) String() string {
	return fmt.Sprintf("%s #%d %s %s", r.server.name, r.number, r.asked.Key, r.asked.Command.CommandType())
}

// outcome renders what the client was told.
func (r *request) outcome() string {
	switch {
	case r.lost:
		return "lost"
	case r.err != nil:
		return r.err.Error()
	}
	return fmt.Sprintf("revision %d, position %s, events %v, unchanged %t, replayed %t", r.receipt.Revision, r.receipt.Position, r.receipt.EventIDs, r.receipt.Unchanged, r.receipt.Replayed)
}

type requestKey struct{}

func requestOf(ctx context.Context) *request { return ctx.Value(requestKey{}).(*request) }

// submit sends a command to a server.
func (s *simulation) submit(c *client, srv *server, asked commands.Request) *request {
	r := &request{number: len(s.history) + 1, client: c, server: srv, asked: asked, begun: s.step, id: commandID(asked)}
	s.history = append(s.history, r)
	s.say("submit", "%s by %s, target %s, dry run %t", r, asked.Actor.ID, asked.Target, asked.DryRun)
	ctx, cancel := context.WithCancel(context.WithValue(context.Background(), requestKey{}, r))
	r.cancel = cancel
	go func() {
		defer cancel()
		receipt, err := srv.bus.Submit(ctx, asked)
		s.mu.Lock()
		defer s.mu.Unlock()
		r.receipt, r.err, r.done = receipt, err, true
	}()
	synctest.Wait() // before anything else may ask the same server for the same locks
	return r
}

// harvest hands the answers that have come to their clients; one may get lost on the way.
func (s *simulation) harvest() {
	for _, r := range s.running() {
		s.mu.Lock()
		done := r.done
		s.mu.Unlock()
		if !done {
			continue
		}
		if !s.calm && s.chance(20) {
			r.lose(s.step)
		}
		r.ended = s.step
		s.say("answer", "%s: %s", r, r.outcome())
		if r.unexpected() {
			s.t.Errorf("seed %d: %s failed: %v", s.seed, r, r.err)
		}
		if r.unknown() {
			r.client.again = &r.asked
		} else if r.err == nil && !r.asked.DryRun {
			aggregate, _, _ := strings.Cut(r.asked.Command.CommandType(), ".")
			s.make.know(aggregate, r.receipt.ID)
		}
	}
}

// unexpected reports whether the error is not one that Submit promises.
func (r *request) unexpected() bool {
	err := r.err
	var (
		invalid   *domain.InvalidError
		rejection *domain.Rejection
		missing   *domain.NotFoundError
		conflict  *domain.ConflictError
		duplicate *domain.DuplicateError
		key       *domain.IdempotencyError
		away      *domain.UnavailableError
	)
	return err != nil && !errors.As(err, &invalid) && !errors.As(err, &rejection) && !errors.As(err, &missing) &&
		!(errors.As(err, &conflict) && r.asked.IfMatch != nil) && !errors.As(err, &duplicate) && !errors.As(err, &key) && !errors.As(err, &away) &&
		!errors.Is(err, context.Canceled)
}

// running returns the requests whose clients still wait.
func (s *simulation) running() []*request {
	var list []*request
	for _, r := range s.history {
		if !r.over() {
			list = append(list, r)
		}
	}
	return list
}

// busy reports whether a server works on something, for a client that waits or for one that has gone away.
func (s *simulation) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.history, func(r *request) bool { return !r.done && !r.server.dead })
}

// free returns the clients that wait for nothing.
func (s *simulation) free() []*client {
	running := s.running()
	return slices.DeleteFunc(slices.Clone(s.clients), func(c *client) bool {
		return slices.ContainsFunc(running, func(r *request) bool { return r.client == c })
	})
}

func (s *simulation) idle() bool { return len(s.free()) > 0 }

// disconnect has a client go away; the server may notice at any moment.
func (s *simulation) disconnect() {
	running := s.running()
	if len(running) == 0 {
		return
	}
	r := running[s.rng.IntN(len(running))]
	s.say("disconnect", "%s", r)
	r.lose(s.step)
	if s.rng.IntN(4) > 0 {
		r.client.again = &r.asked
	}
	r.cancel()
}

// submitSomething lets a free client submit a new command, or repeat one.
func (s *simulation) submitSomething() {
	free := s.free()
	c := free[s.rng.IntN(len(free))]
	srv := s.servers[s.rng.IntN(servers)]
	if c.again != nil {
		asked := *c.again
		c.again = nil
		if s.chance(850) {
			s.submit(c, srv, asked)
			return
		}
	}
	if len(s.history) > 0 && s.chance(60) { // a key that was used before, with the same body or with another
		old := s.history[s.rng.IntN(len(s.history))].asked
		if !old.DryRun && s.rng.IntN(2) == 0 {
			old.Command = s.make.another(old.Command)
		}
		s.submit(c, srv, old)
		return
	}
	asked := s.newRequest()
	s.submit(c, srv, asked)
	if s.chance(60) { // at the same time once more, perhaps through another process
		s.submit(c, s.servers[s.rng.IntN(servers)], asked)
	}
}

// newRequest makes up a command with a new key.
func (s *simulation) newRequest() commands.Request {
	s.keys++
	asked := commands.Request{
		Tenant: domain.DefaultTenant, Actor: domain.Actor{ID: []string{"ada", "bob"}[s.rng.IntN(2)], Kind: domain.ActorHuman},
		Key: fmt.Sprint("key-", s.keys), DryRun: s.chance(30),
	}
	spec, target := s.make.choose()
	asked.Target, asked.Command = target, s.make.command(spec)
	if !spec.Creates && s.chance(150) {
		stream := domain.StreamID{Tenant: asked.Tenant, Aggregate: aggregateOf(spec), ID: target}
		revision := uint64(max(0, len(s.log.streams[stream.String()])-1-s.rng.IntN(3)/2))
		asked.IfMatch = &revision
	}
	return asked
}

// settle is called again and again once nothing is in execution any more: clients ask for everything that they were not
// told; then everybody asks for every unique value. It reports false when that is done.
func (s *simulation) settle() bool {
	for _, r := range s.history {
		if r.unknown() && !s.asked[r.id] && !r.asked.DryRun {
			s.asked[r.id] = true
			s.submit(r.client, s.servers[s.rng.IntN(servers)], r.asked)
			return true
		}
	}
	if s.probes == nil {
		s.advance(2*commands.ClaimTimeout + 48*time.Hour)
		s.probes = make(map[string]*request)
	}
	for _, v := range uniqueValues() {
		if s.probes[v.name] == nil {
			s.keys++
			s.probes[v.name] = s.submit(s.clients[0], s.servers[s.rng.IntN(servers)], commands.Request{
				Tenant: domain.DefaultTenant, Actor: domain.Actor{ID: "ada", Kind: domain.ActorHuman},
				Key: fmt.Sprint("key-", s.keys), Command: v.claim,
			})
			return true
		}
	}
	return false
}
