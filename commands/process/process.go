// Package process turns events into commands: what one aggregate is to do because something happened to another. A Process is a
// declaration with a pure function, as a projection is; cmd/rapport lets it follow the log.
//
//	var ConvertLeads = process.Process{
//		Name: "convert-leads", Doc: "Registers a customer for each lead that was won.",
//		Events: []string{"lead.won"}, Start: process.AtEnd,
//		React: func(e domain.Recorded) []commands.Request { … },
//	}
//
// What a process promises:
//
//  1. Each command takes effect exactly once. Its idempotency key follows from the process, the event and the command's place among
//     those of the event, so that a crash at any step repeats commands and the bus recognises each repetition.
//  2. A process begins where Start says when it is run for the first time, and goes on from its own checkpoint ever after. Rebuilding
//     read models starts no process.
//  3. What the decider refuses (a rejection, a value that somebody else holds) is an answer, and the process goes on. Whatever else
//     fails is tried again, and nothing overtakes it: the log is away, or the process sends a command that can never be right, which
//     an operator sees and may skip.
//
// React sees one event and no state. What a decision needs beside the command is brought in by the rules of the command's area:
// see commands.Prepare. A process that must remember something is an aggregate that its commands address.
package process

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// Process declares which commands follow from which events.
type Process struct {
	Name   string   // permanent, for the checkpoint and the commands' keys follow from it: lower-case letters, digits and -
	Doc    string   // one sentence that says what it does
	Events []string // types of the events that it follows
	Start  Start

	// React returns the commands that follow from an event, each time the same for the same event. Of a request the target and the
	// command are given, and the rest where it differs from what Requests fills in.
	React func(e domain.Recorded) []commands.Request
}

// Start says where a process begins that has never run. There is no default.
type Start int

// The starts.
const (
	AtBeginning Start = iota + 1 // of the log: what happened before the process existed has its commands too
	AtEnd                        // of the log, as it is when the process is run for the first time
)

const nameLetters = "abcdefghijklmnopqrstuvwxyz0123456789-"

// Check returns what is wrong with the declarations of all processes, given the aggregates of the product.
func Check(all []Process, aggregates []domain.Definition) error {
	types := map[string]bool{}
	for _, a := range aggregates {
		for _, e := range a.Events {
			types[e.Type()] = true
		}
	}
	var faults []error
	seen := map[string]bool{}
	for _, p := range all {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("process %q "+format, append([]any{p.Name}, args...)...))
		}
		switch {
		case p.Name == "" || strings.Trim(p.Name, nameLetters) != "":
			fault("has no name of lower-case letters, digits and -")
		case seen[p.Name]:
			fault("is declared twice")
		case p.Doc == "":
			fault("says nothing of what it does")
		case p.Start != AtBeginning && p.Start != AtEnd:
			fault("does not say where it begins")
		case p.React == nil:
			fault("does nothing")
		case len(p.Events) == 0:
			fault("follows no events")
		}
		for _, t := range p.Events {
			if !types[t] {
				fault("follows %q, which no aggregate declares", t)
			}
		}
		seen[p.Name] = true
	}
	return errors.Join(faults...)
}

// Wants reports whether the process follows events of a type.
func (p Process) Wants(eventType string) bool { return slices.Contains(p.Events, eventType) }

// Requests returns the commands of an event as the bus takes them. The tenant is the event's. What React has left out is filled in:
// the system acts, because of the event, in the event's conversation; the key follows from the process, the event and the command's
// place. A key that React gives names a command that somebody else may submit as well, such as the client's own request.
func (p Process) Requests(e domain.Recorded) []commands.Request {
	list := p.React(e)
	for i := range list {
		r := &list[i]
		r.Tenant = e.Tenant
		if r.Actor == (domain.Actor{}) {
			r.Actor = commands.System
		}
		if r.Key == "" {
			r.Key = strings.Join([]string{"process", p.Name, e.ID, strconv.Itoa(i)}, " ")
		}
		if r.CorrelationID == "" {
			r.CorrelationID = e.CorrelationID
		}
		if r.CausationID == "" {
			r.CausationID = e.ID
		}
		if r.TraceParent == "" {
			r.TraceParent = e.TraceParent
		}
	}
	return list
}

// Bus is what a process needs of the command bus.
type Bus interface {
	Submit(ctx context.Context, r commands.Request) (commands.Receipt, error)
}

// Do submits the commands of an event, one after the other, and returns what the deciders refused. After an error the event has to
// come again: the commands before it are recognised then.
func (p Process) Do(ctx context.Context, bus Bus, e domain.Recorded) (refused []error, err error) {
	for _, r := range p.Requests(e) {
		_, err := bus.Submit(ctx, r)
		switch {
		case err == nil:
		case answered(err):
			refused = append(refused, fmt.Errorf("%s of %s: %w", r.Command.CommandType(), r.Target, err))
		default:
			return refused, fmt.Errorf("%s of %s: %w", r.Command.CommandType(), r.Target, err)
		}
	}
	return refused, nil
}

// answered reports whether an error is a decision of the business.
func answered(err error) bool {
	var rejection *domain.Rejection
	var duplicate *domain.DuplicateError
	return errors.As(err, &rejection) || errors.As(err, &duplicate)
}
