package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rapport-crm/rapport/domain"
)

// batch is what one command wrote into one stream, as it stands in the log.
type batch struct {
	command     string
	ids         []string
	first, last int  // revisions
	kernel      bool // about a reservation: it says nothing about the aggregate
}

// batches cuts a stream into the batches that commands wrote.
func batches(events []domain.Recorded) (list []batch) {
	for _, e := range events {
		n := len(list)
		kernel := strings.HasPrefix(e.Type(), domain.ReservationName+".")
		if n == 0 || list[n-1].command != e.CommandID {
			list = append(list, batch{command: e.CommandID, first: int(e.Revision), kernel: kernel})
			n++
		}
		list[n-1].ids, list[n-1].last = append(list[n-1].ids, e.ID), int(e.Revision)
	}
	return list
}

// version returns the revision of the aggregate when the stream holds its first n events, and false when it does not exist.
func version(list []batch, n int) (int, bool) {
	for i := len(list) - 1; i >= 0; i-- {
		if !list[i].kernel && list[i].last < n {
			return list[i].last, true
		}
	}
	return 0, false
}

// asking is one request or one write that nobody was told of, as the history checker sees it.
type asking struct {
	request *request // nil for a write that nobody was told of
	writes  *batch   // nil when it wrote nothing
	known   *batch   // what the command has written by the end, by whatever request
	stream  []batch

	unchanged bool // the key was used with success for something that changed nothing, which a process may remember
}

// streamModel is what a stream of events must look like to those who use it at the same time: a list that grows. The state
// is its length. A request takes effect at one moment between its begin and its end; one whose end is not known takes effect
// at any time after its begin, or never.
var streamModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		n, a := state.(int), input.(asking)
		if a.writes != nil {
			return n == a.writes.first, a.writes.last + 1
		}
		return a.request.agrees(n, a), n
	},
	DescribeOperation: func(input, _ any) string {
		a := input.(asking)
		if a.request == nil {
			return fmt.Sprintf("unseen write of %d to %d", a.writes.first, a.writes.last)
		}
		return fmt.Sprintf("%s: %s", a.request, a.request.outcome())
	},
	DescribeState: func(state any) string { return fmt.Sprint(state, " events") },
}

// agrees reports whether an answer that wrote nothing is true of the stream with its first n events.
func (r *request) agrees(n int, a asking) bool {
	var (
		invalid  *domain.InvalidError
		missing  *domain.NotFoundError
		conflict *domain.ConflictError
		key      *domain.IdempotencyError
	)
	executed := a.known != nil && a.known.last < n
	at, exists := version(a.stream, n)
	switch {
	case errors.As(r.err, &key):
		return executed || a.unchanged
	case errors.As(r.err, &invalid):
		return true // what can never be right is refused before anybody looks for the key
	case r.err != nil && executed:
		return false // the key should have found what was executed
	case errors.As(r.err, &missing) && missing.Kind == aggregateOfCommand(r):
		return !exists
	case errors.As(r.err, &conflict):
		actual, some := conflict.Actual.Revision()
		return some == exists && (!some || int(actual) == at)
	case r.err != nil:
		return true
	case r.asked.DryRun:
		return true
	case r.receipt.Unchanged && r.receipt.Replayed: // remembered: it was so once
		return exists && int(r.receipt.Revision) <= at
	case r.receipt.Unchanged:
		return exists && int(r.receipt.Revision) == at
	}
	return executed // a replay
}

// body renders what was asked for.
func (r *request) body() string {
	text, err := json.Marshal(r.asked.Command)
	return fmt.Sprint(r.asked.Command.CommandType(), r.asked.Target, string(text), err)
}

func aggregateOfCommand(r *request) string {
	name, _, _ := strings.Cut(r.asked.Command.CommandType(), ".")
	return name
}

// checkHistory holds what clients were told against the streams: each must be linearizable.
func (s *simulation) checkHistory(streams map[domain.StreamID][]domain.Recorded) {
	lists := map[string][]batch{}
	written := map[string]map[string]*batch{} // by stream and command
	for id, events := range streams {
		name := id.String()
		lists[name], written[name] = batches(events), map[string]*batch{}
		for i := range lists[name] {
			b := &lists[name][i]
			if written[name][b.command] != nil && !b.kernel { // one command may fence several claims of one holder
				s.t.Errorf("seed %d: %s: command %s wrote twice, at %d and at %d", s.seed, name, b.command, written[name][b.command].first, b.first)
			}
			written[name][b.command] = b
		}
	}
	histories := map[string][]porcupine.Operation{}
	seen := map[*batch]bool{}
	bodies := map[*batch]string{} // what was asked for by those who were told of it
	begun := map[string]int{}     // the first request of each command
	unchanged := map[string]bool{}
	for _, r := range s.history {
		unchanged[r.id] = unchanged[r.id] || r.done && r.err == nil && r.receipt.Unchanged
	}
	for _, r := range s.history {
		if _, ok := begun[r.id]; !ok {
			begun[r.id] = r.begun
		}
		if r.unknown() {
			continue
		}
		stream := s.streamOf(r)
		a := asking{request: r, known: written[stream][r.id], stream: lists[stream], unchanged: unchanged[r.id]}
		if r.err == nil && !r.receipt.Unchanged && !r.asked.DryRun {
			if a.known == nil || fmt.Sprint(a.known.ids) != fmt.Sprint(r.receipt.EventIDs) || a.known.last != int(r.receipt.Revision) {
				s.t.Errorf("seed %d: %s was told %s, but the log holds %+v", s.seed, r, r.outcome(), a.known)
				continue
			}
			if body := r.body(); bodies[a.known] == "" {
				bodies[a.known] = body
			} else if bodies[a.known] != body {
				s.t.Errorf("seed %d: %s was told the receipt of another request with its key: %s and %s", s.seed, r, body, bodies[a.known])
			}
			if !r.receipt.Replayed {
				if seen[a.known] {
					s.t.Errorf("seed %d: %s was told that it wrote what another had written", s.seed, r)
				}
				a.writes, seen[a.known] = a.known, true
			}
		}
		histories[stream] = append(histories[stream], porcupine.Operation{
			ClientId: r.number, Input: a, Call: int64(r.begun) * 2, Return: int64(r.ended)*2 - 1,
		})
	}
	for name, list := range lists {
		if strings.Contains(name, "."+domain.ReservationName+"-") {
			continue // nobody asks for these: checkData has rules of their own
		}
		for i := range list {
			if b := &list[i]; !seen[b] {
				histories[name] = append(histories[name], porcupine.Operation{
					Input: asking{writes: b, stream: list}, Call: int64(begun[b.command]) * 2, Return: math.MaxInt64,
				})
			}
		}
		// The last word: whoever reads the stream when everything is over finds all of it.
		end := batch{first: list[len(list)-1].last + 1, last: list[len(list)-1].last}
		histories[name] = append(histories[name], porcupine.Operation{
			Input: asking{writes: &end, stream: list}, Call: math.MaxInt64, Return: math.MaxInt64,
		})
	}
	for name, history := range histories {
		result, info := porcupine.CheckOperationsVerbose(streamModel, history, time.Minute)
		if result != porcupine.Ok {
			var lines strings.Builder
			for _, o := range history {
				fmt.Fprintf(&lines, "  %d..%d %s\n", o.Call/2, o.Return/2, streamModel.DescribeOperation(o.Input, nil))
			}
			s.t.Errorf("seed %d: the history of %s is %s: no order explains what its clients were told; as far as it goes: %v\n%s",
				s.seed, name, result, info.PartialLinearizations(), lines.String())
		}
	}
}

// streamOf returns the stream that a request addresses.
func (s *simulation) streamOf(r *request) string {
	id := r.asked.Target
	if id == "" {
		id = s.servers[0].bus.ID(r.asked.Tenant, r.asked.Actor, r.asked.Key, aggregateOfCommand(r))
	}
	return domain.StreamID{Tenant: r.asked.Tenant, Aggregate: aggregateOfCommand(r), ID: id}.String()
}
