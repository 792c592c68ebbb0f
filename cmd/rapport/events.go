package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/rapport-crm/rapport/domain"
)

type eventsCommand struct {
	stores
	tenant
	After  string   `help:"Position, or id of an event, after which to begin; the beginning when left out." placeholder:"POSITION"`
	Types  []string `help:"Event types, or prefixes that end in a dot: order. means all of orders." placeholder:"TYPE"`
	Stream string   `help:"One stream only, such as main.customer-<uuid>." placeholder:"STREAM"`
	Limit  int      `help:"Stop after so many events; 0 means all." default:"0"`
	Follow bool     `help:"Wait for further events." short:"f"`
	JSON   bool     `name:"json" help:"Print one JSON object a line, with the whole event."`
}

// Help shows an example.
func (eventsCommand) Help() string {
	return "Example: rapport events --data data --types order. --limit 20"
}

// Validate refuses flags that contradict each other, and values that cannot be right.
func (e eventsCommand) Validate() error {
	if e.Stream != "" && (e.Follow || e.After != "") {
		return errors.New("--stream goes with neither --follow nor --after")
	}
	if e.Limit < 0 {
		return fmt.Errorf("--limit %d is below 0", e.Limit)
	}
	if _, err := domain.ParseID(e.After); e.After != "" && err != nil {
		if _, err := domain.ParsePosition(e.After); err != nil {
			return fmt.Errorf("--after: %w, nor the id of an event", err)
		}
	}
	if e.Stream != "" {
		if _, err := domain.ParseStreamID(e.Stream); err != nil {
			return fmt.Errorf("--stream: %w", err)
		}
	}
	return nil
}

// Run prints the events.
func (e eventsCommand) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	l, err := e.openLog(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	after, err := e.after(ctx, l)
	if err != nil {
		return err
	}
	if err := l.reached(ctx, "--after", after); err != nil {
		return err
	}
	events, err := e.source(ctx, l, after)
	if err != nil {
		return err
	}
	printed := 0
	for event, err := range events {
		if err != nil {
			return err
		}
		event, sees := e.by(domain.Actor{}).Redact(event)
		if !sees || !e.wanted(event.Type()) {
			continue
		}
		if err := e.print(c, event); err != nil {
			return err
		}
		if printed++; printed == e.Limit {
			return nil
		}
	}
	return nil
}

// after returns the position after which to begin.
func (e eventsCommand) after(ctx context.Context, l *log) (domain.Position, error) {
	if e.After == "" {
		return domain.Position{}, nil
	}
	if id, err := domain.ParseID(e.After); err == nil {
		return l.place(ctx, "--after", e.by(domain.Actor{}), id)
	}
	return domain.ParsePosition(e.After)
}

func (e eventsCommand) source(ctx context.Context, l *log, after domain.Position) (iter.Seq2[domain.Recorded, error], error) {
	switch {
	case e.Stream != "":
		stream, err := domain.ParseStreamID(e.Stream)
		return l.Store.Read(ctx, stream, 0), err
	case e.Follow:
		return l.Store.Subscribe(ctx, after), nil
	}
	return l.Store.ReadAll(ctx, after), nil
}

func (e eventsCommand) wanted(eventType string) bool {
	return len(e.Types) == 0 || slices.ContainsFunc(e.Types, func(t string) bool {
		return t == eventType || strings.HasSuffix(t, ".") && strings.HasPrefix(eventType, t)
	})
}

// printedEvent is the JSON form of an event on the command line; its members are named as in the API's feed.
type printedEvent struct {
	Position      domain.Position `json:"position"`
	Stream        string          `json:"stream"`
	Revision      uint64          `json:"revision"`
	ID            string          `json:"id"`
	Type          string          `json:"type"`
	Schema        int             `json:"schema"`
	Tenant        domain.Tenant   `json:"tenant"`
	Actor         domain.Actor    `json:"actor"`
	OccurredAt    time.Time       `json:"occurredAt"`
	RecordedAt    time.Time       `json:"recordedAt"`
	CommandID     string          `json:"commandId"`
	CorrelationID string          `json:"correlationId"`
	CausationID   string          `json:"causationId"`
	Subjects      []domain.ID     `json:"subjects,omitempty"`
	TraceParent   string          `json:"traceParent,omitempty"`
	Data          domain.Event    `json:"data"`
}

func (e eventsCommand) print(c *console, r domain.Recorded) error {
	if e.JSON {
		return json.NewEncoder(c.out).Encode(printedEvent{
			Position: r.Position, Stream: r.Stream.String(), Revision: r.Revision, ID: r.ID, Type: r.Type(), Schema: r.Schema, Tenant: r.Tenant,
			Actor: r.Actor, OccurredAt: r.OccurredAt, RecordedAt: r.RecordedAt, CommandID: r.CommandID, CorrelationID: r.CorrelationID,
			CausationID: r.CausationID, Subjects: r.Subjects, TraceParent: r.TraceParent, Data: r.Event,
		})
	}
	_, err := fmt.Fprintf(c.out, "%s  %s  %-32s %s@%d  %s\n",
		r.Position, r.RecordedAt.Format(time.RFC3339), r.Type(), r.Stream, r.Revision, r.Actor.ID)
	return err
}
