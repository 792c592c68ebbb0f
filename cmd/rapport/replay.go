package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/history"
	"github.com/rapport-crm/rapport/projections/view"
	"github.com/rapport-crm/rapport/readmodels/query"
)

type replayCommand struct {
	Customer    replayRecord `cmd:"" help:"Replay a customer, with everything linked to it."`
	Contact     replayRecord `cmd:"" help:"Replay a contact."`
	Interaction replayRecord `cmd:"" help:"Replay a dealing with a customer."`
	Product     replayRecord `cmd:"" help:"Replay a product."`
	Pipeline    replayRecord `cmd:"" help:"Replay a pipeline."`
	Opportunity replayRecord `cmd:"" help:"Replay an opportunity."`
	Order       replayRecord `cmd:"" help:"Replay an order."`
	WhatIf      replayWhatIf `cmd:"" help:"Run a projection over the history with other parameters, and print what would differ."`
}

// Help shows an example.
func (replayCommand) Help() string {
	return "Example: rapport replay customer 01900000-0000-7000-8000-000000000001 --data data"
}

// replayRecord replays one record; the name of the command is that of its aggregate.
type replayRecord struct {
	stores
	tenant
	ID   string   `arg:"" help:"The record, a UUID."`
	AsOf moment   `name:"as-of" help:"Stop there: an RFC 3339 time, a position of the log, or the id of an event." placeholder:"T"`
	Axis string   `help:"recorded: as known at a time; occurred: what had happened by a time, as known now." enum:"recorded,occurred" default:"recorded"`
	Diff *moments `help:"Print only what differs between two moments, each a time, a position or the id of an event." placeholder:"A B"`
	Lang string   `help:"Language of the words: en or zh." enum:"en,zh" default:"en"`
	JSON bool     `name:"json" help:"Print as JSON."`
}

// Help shows examples.
func (replayRecord) Help() string {
	const id = "01900000-0000-7000-8000-000000000001"
	return "Example: rapport replay customer " + id + " --data data --as-of 2026-03-01T00:00:00Z\n\n" +
		"Example: rapport replay customer " + id + " --data data --diff 2026-01-01T00:00:00Z 2026-04-01T00:00:00Z\n\n" +
		"Prints each event with who, when and what it changed, and how the record stood in the end. It reads the log alone, whether or not a server runs; for a customer it goes through the whole of it."
}

// moment is a time, a position of the log or an event, as the user writes it; the zero value is the end of the log.
type moment struct {
	time     time.Time
	position domain.Position
	event    domain.ID // whose position is to be found
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *moment) UnmarshalText(text []byte) (err error) {
	if m.event, err = domain.ParseID(string(text)); err == nil {
		return nil
	}
	if m.position, err = domain.ParsePosition(string(text)); err != nil {
		m.time, err = time.Parse(time.RFC3339, string(text))
	}
	switch {
	case err != nil:
		return fmt.Errorf("%q is neither an RFC 3339 time nor a position of the log nor the id of an event", text)
	case *m == moment{}:
		return fmt.Errorf("%q is before everything", text)
	}
	return nil
}

func (m moment) String() string {
	if !m.time.IsZero() {
		return m.time.UTC().Format(time.RFC3339Nano)
	}
	return m.position.String()
}

// moments are two of them, written one after the other.
type moments [2]moment

// Decode implements kong.MapperValue: the flag takes two words.
func (m *moments) Decode(ctx *kong.DecodeContext) error {
	for i := range m {
		var text string
		if err := ctx.Scan.PopValueInto("moment", &text); err != nil {
			return err
		}
		if err := m[i].UnmarshalText([]byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// named returns the moments that the user names, and by which flag.
func (r *replayRecord) named() (flag string, named []*moment) {
	if r.Diff != nil {
		return "--diff", []*moment{&r.Diff[0], &r.Diff[1]}
	}
	return "--as-of", []*moment{&r.AsOf}
}

// Validate refuses what cannot be right.
func (r replayRecord) Validate() error {
	if _, err := domain.ParseID(r.ID); err != nil {
		return fmt.Errorf("<id>: %w", err)
	}
	if r.Diff != nil && r.AsOf != (moment{}) {
		return errors.New("--as-of does not go with --diff, which names two moments")
	}
	_, named := r.named()
	noTime := func(m *moment) bool { return m.time.IsZero() && *m != moment{} }
	if query.Axis(r.Axis) == query.AxisOccurred && slices.ContainsFunc(named, noTime) {
		return errors.New("--axis occurred needs a time: positions order what was recorded")
	}
	return nil
}

// Run prints the replay, or the difference of two moments.
func (r replayRecord) Run(ctx context.Context, chosen *kong.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	id, err := domain.ParseID(r.ID)
	if err != nil {
		return err
	}
	l, err := r.openLog(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	flag, named := r.named()
	for _, m := range named {
		if m.event != "" {
			if m.position, err = l.place(ctx, flag, r.by(domain.Actor{}), m.event); err != nil {
				return err
			}
		}
		if err := l.reached(ctx, flag, m.position); err != nil {
			return err
		}
	}
	reader, err := history.New(l.Store, nil, projections.All())
	if err != nil {
		return err
	}
	scan, err := reader.Scan(ctx, l.Store, r.by(domain.Actor{}), chosen.Selected().Name, id)
	if err != nil {
		return err
	}
	if r.Diff != nil {
		return r.difference(c, scan)
	}
	words, err := aggregates.Phrasebook()
	if err != nil {
		return err
	}
	return r.replay(c, scan, words)
}

func (r replayRecord) story(scan *history.Scan, m moment) (*history.Story, error) {
	return scan.Story(query.AsOf{Axis: query.Axis(r.Axis), Position: m.position, Time: m.time})
}

// printedReplay is the JSON form of a replay.
type printedReplay struct {
	Entries []query.HistoryEntry `json:"entries"`
	State   json.RawMessage      `json:"state"` // after the last entry
}

func (r replayRecord) replay(c *console, scan *history.Scan, words *domain.Phrasebook) error {
	story, err := r.story(scan, r.AsOf)
	if err != nil {
		return err
	}
	entries, err := story.Entries()
	if err != nil {
		return err
	}
	for i := range entries {
		entries[i].Tell(words, domain.Reader{Language: domain.Language(r.Lang)})
	}
	state, err := stateOf(story)
	if err != nil {
		return err
	}
	if r.JSON {
		return json.NewEncoder(c.out).Encode(printedReplay{entries, state})
	}
	for _, e := range entries {
		if err := printEntry(c.out, e); err != nil {
			return err
		}
	}
	members, err := history.Difference(nil, state)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "\nAfter %d events:\n", len(entries))
	for _, m := range members {
		if _, err := fmt.Fprintf(c.out, "  %s  %s\n", placeOf(m), m.To); err != nil {
			return err
		}
	}
	return nil
}

// stateOf returns the record in the end, as the API would answer it.
func stateOf(story *history.Story) (json.RawMessage, error) {
	state, err := story.State()
	if err != nil {
		return nil, err
	}
	return view.Marshal(state)
}

// printEntry prints who did what, when, and what it changed.
func printEntry(out io.Writer, e query.HistoryEntry) error {
	who := e.Actor.ID
	if e.Actor.OnBehalfOf != "" {
		who += " for " + e.Actor.OnBehalfOf
	}
	late := ""
	if !e.OccurredAt.Equal(e.RecordedAt) {
		late = ", recorded " + e.RecordedAt.Format(time.RFC3339)
	}
	_, err := fmt.Fprintf(out, "%s  %s%s  %s  %s (%s)\n", e.Position, e.OccurredAt.Format(time.RFC3339), late, who, e.Summary, e.EventType)
	for _, c := range e.Changes {
		if err == nil {
			_, err = fmt.Fprintf(out, "    %s: %s\n", placeOf(c), fromTo(c))
		}
	}
	return err
}

// placeOf names the place of a change: record, row and field.
func placeOf(c query.Change) string {
	place := c.Record
	if c.Key != "" {
		place += "[" + c.Key + "]"
	}
	if c.Field != "" {
		place += "." + c.Field
	}
	return place
}

// fromTo says from what to what something changed.
func fromTo(c query.Change) string {
	shown := func(value json.RawMessage) string {
		if value == nil {
			return "nothing"
		}
		return string(value)
	}
	return shown(c.From) + " → " + shown(c.To)
}

// printedDifference is the JSON form of a difference.
type printedDifference struct {
	From    string         `json:"from"`
	To      string         `json:"to"`
	Changes []query.Change `json:"changes"`
}

func (r replayRecord) difference(c *console, scan *history.Scan) error {
	var states [2]json.RawMessage
	for i, m := range r.Diff {
		story, err := r.story(scan, m)
		var none *domain.NotFoundError
		if errors.As(err, &none) {
			continue // it did not exist yet
		}
		if err != nil {
			return err
		}
		if states[i], err = stateOf(story); err != nil {
			return err
		}
	}
	changes, err := history.Difference(states[0], states[1])
	if err != nil {
		return err
	}
	if r.JSON {
		return json.NewEncoder(c.out).Encode(printedDifference{r.Diff[0].String(), r.Diff[1].String(), changes})
	}
	var b strings.Builder
	for _, change := range changes {
		fmt.Fprintf(&b, "%s: %s\n", placeOf(change), fromTo(change))
	}
	fmt.Fprintf(&b, "%d differences between %s and %s\n", len(changes), r.Diff[0], r.Diff[1])
	_, err = io.WriteString(c.out, b.String())
	return err
}
