package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/logcopy"
)

type logCommand struct {
	Copy   logCopy   `cmd:"" help:"Carry the whole log into another one, such as that of a cluster."`
	Verify logVerify `cmd:"" help:"Compare a copy with the log, or check a file."`
	Export logExport `cmd:"" help:"Write the whole log into one compressed file, which is a backup that any log can take up."`
	Import logImport `cmd:"" help:"Carry such a file into an empty log."`
	Grant  logGrant  `cmd:"" help:"Let a user of an EventStoreDB read the log; for its administrator."`
}

// Help shows an example.
func (logCommand) Help() string {
	return "Example: rapport log copy --data data --to esdb://node1.example:2113"
}

// copyFlags choose the log that a copy is in.
type copyFlags struct {
	To          string `help:"Connection string of the EventStoreDB that the copy is in, esdb://…" placeholder:"URL"`
	ToNamespace string `help:"Namespace of the copy; ${default} when left out." default:"rapport" placeholder:"NAME"`
}

// dial prepares the connection to the copy and returns how it stands. Nothing is begun by that.
func (f copyFlags) dial(ctx context.Context, c *console, closing *closers, options ...eventlog.Option) (*eventlog.ESDB, eventlog.Standing, error) {
	client, err := eventlog.Dial(ctx, f.To, append(options, eventlog.WithNamespace(f.ToNamespace))...)
	if err != nil {
		return nil, eventlog.Standing{}, fmt.Errorf("connect to the copy: %w", err)
	}
	closing.add(client.Close)
	standing, err := client.AwaitStanding(ctx, startPatience, waitingOn(ctx, c.log))
	if err != nil {
		err = fmt.Errorf("the copy: %w", err)
	}
	return client, standing, err
}

// proofFlags choose how a proof is printed.
type proofFlags struct {
	Streams string `help:"File for the proof of each stream: hash, number of events and name, one stream a line." type:"path" placeholder:"FILE"`
	JSON    bool   `name:"json" help:"Print the proof as JSON."`
}

// printedProof is the JSON form of a proof.
type printedProof struct {
	Source   eventlog.Identity `json:"source"`
	Copy     eventlog.Identity `json:"copy"`
	Carried  uint64            `json:"carried"` // events by this run
	Complete bool              `json:"complete"`
	Equal    bool              `json:"equal"`
	From     logcopy.Totals    `json:"from"`
	To       logcopy.Totals    `json:"to"`
}

// print prints what a run has done and the proof, with a last line of the verb.
func (f proofFlags) print(c *console, r logcopy.Result, last string) error {
	p := printedProof{
		Source: r.Source, Copy: r.Copy, Carried: r.Carried, Complete: r.Complete,
		Equal: r.Proof.Equal(), From: r.Proof.From.Totals(), To: r.Proof.To.Totals(),
	}
	if f.Streams != "" {
		if err := writeStreams(f.Streams, r.Proof.To); err != nil {
			return err
		}
	}
	if f.JSON {
		return json.NewEncoder(c.out).Encode(p)
	}
	fmt.Fprintf(c.out, "source  %s\ncopy    %s\n%s\n", totalsText(p.Source, p.From), totalsText(p.Copy, p.To), r.Proof)
	if last != "" {
		fmt.Fprintln(c.out, last)
	}
	return nil
}

// totalsText is one line of a proof. A file has no identity of its own.
func totalsText(i eventlog.Identity, t logcopy.Totals) string {
	text := fmt.Sprintf("%d events, %d streams, sha256 %s", t.Events, t.Streams, t.Hash)
	if i.ID != "" {
		text = "log " + i.ID + ": " + text
	}
	return text
}

func writeStreams(path string, d *logcopy.Digest) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(file)
	for _, s := range d.Streams() {
		fmt.Fprintf(w, "%s  %d  %s\n", s.Hash, s.Events, s.Stream)
	}
	return errors.Join(w.Flush(), file.Close())
}

// copyingOn shows how far a copy is.
func copyingOn(c *console) func(logcopy.Progress) {
	var p *progress
	var part logcopy.Part
	var first uint64 // events that the part found done
	return func(now logcopy.Progress) {
		switch {
		case p == nil:
			p = c.progress(string(now.Part))
			part, first = now.Part, now.Done
		case now.Part != part:
			p.begin(string(now.Part))
			part, first = now.Part, now.Done
		}
		done, total := int64(now.Done-first), int64(0)
		if now.Total > first {
			total = int64(now.Total - first)
		}
		step := p.step
		if now.Ended {
			step = p.end
		}
		step(int64(now.Done), int64(now.Total), p.pace(done, "events", done, total))
	}
}

// history opens the log that the flags choose, to be read from its beginning to where it stands now. Nothing is begun in it.
func (s stores) history(ctx context.Context, c *console, closing *closers, options ...eventlog.Option) (*eventlog.ESDB, *logcopy.LogSource, error) {
	if s.EventStore == "" {
		if _, err := os.Stat(filepath.Join(s.Data, nodeDir)); err != nil {
			if _, running := s.running(); running != nil {
				return nil, nil, fmt.Errorf("there is no event log in %s: %w", s.Data, err)
			}
		}
	}
	client, _, err := s.dialLog(ctx, c.log, closing, options...)
	if err != nil {
		return nil, nil, err
	}
	standing, err := client.AwaitStanding(ctx, startPatience, waitingOn(ctx, c.log))
	switch {
	case err != nil:
		return nil, nil, err
	case standing.Identity.ID == "":
		return nil, nil, fmt.Errorf("there is no log in the namespace %s", s.Namespace)
	case standing.Unfinished:
		return nil, nil, eventlog.ErrUnfinishedCopy
	}
	source, err := logcopy.Open(ctx, client, standing.Identity)
	return client, source, err
}

// historyWith is history of an installation whose secret goes with it: the copy can be used with that alone, because values
// that are taken are found by it. A secret that is not that of the log is refused.
func (s stores) historyWith(ctx context.Context, c *console, given string, closing *closers) (source *logcopy.LogSource, secret []byte, err error) {
	secret, err = s.keptSecret(given)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("the key of reservations is needed, by which the copy will find values that are taken: give --secret, or --data of the installation that has it (%w)", err)
	}
	if err != nil {
		return nil, nil, err
	}
	client, source, err := s.history(ctx, c, closing, eventlog.WithSecret(secret))
	if err != nil || source.Identity().Secret != "" {
		return source, secret, err
	}
	if err := proveSecret(ctx, client, secret); err != nil {
		return nil, nil, err
	}
	source.NoteSecret(eventlog.SecretCheck(secret))
	return source, secret, nil
}

// proveSecret finds out from its reservations whether a secret is that of a log that was begun before logs noted it.
func proveSecret(ctx context.Context, l eventlog.Log, secret []byte) error {
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		return err
	}
	store := eventlog.NewStore(l, registry)
	bus := commands.NewBus(store, commands.Options{Secret: secret})
	areas.Register(bus)
	isClaim := func(eventType string) bool { return eventType == domain.ReservationClaimed{}.EventType() }
	proof, err := bus.ProveSecret(ctx, store.ReadTypes(ctx, domain.Position{}, isClaim))
	if err == nil && proof == commands.SecretRefuted {
		err = fmt.Errorf("%w: no value that is held is reserved under the name that it gives", eventlog.ErrOtherSecret)
	}
	return err
}

type logCopy struct {
	stores
	writer
	copyFlags
	proofFlags
}

// Help shows an example and says what may be relied on.
func (logCopy) Help() string {
	return "Example: rapport log copy --data data --to esdb://node1.example:2113\n\n" +
		"Every event of the log goes into a namespace that is empty, in the same order and byte for byte; the copy is read back and compared. " +
		"A run that was interrupted is resumed by the same command. Until the copy is complete no server starts on it. " +
		"While a server runs on the log the copy is left incomplete: stop the server and run the same again, which carries the rest."
}

// Validate refuses a copy that goes nowhere.
func (l logCopy) Validate() error {
	if l.To == "" {
		return errors.New("--to is missing: the connection string of the log to copy into")
	}
	return nil
}

// Run copies and prints the proof.
func (l logCopy) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	source, secret, err := l.historyWith(ctx, c, l.Secret, &closing)
	if err != nil {
		return err
	}
	to, _, err := l.dial(ctx, c, &closing, eventlog.WithSecret(secret))
	if err != nil {
		return err
	}
	inUse := l.inUse()
	result, err := logcopy.Copy(ctx, source, to, logcopy.Options{Progress: copyingOn(c), LeaveOpen: inUse})
	if err != nil {
		return err
	}
	return l.finish(c, result, inUse)
}

// inUse reports whether a server of this machine writes to the log that the flags choose.
func (s stores) inUse() bool {
	r, err := s.running()
	return err == nil && (s.EventStore == "" || s.EventStore == r.EventStore)
}

// finish prints the proof of a copy, and what is to be done with the copy.
func (f proofFlags) finish(c *console, result logcopy.Result, inUse bool) error {
	last := fmt.Sprintf("The copy is complete, %d events by this run. It is used with the same --secret; read models are built anew.", result.Carried)
	switch {
	case !result.Proof.Equal() && result.Complete:
		last = "The copy was complete before, and is not written to."
	case !result.Complete:
		last = "The copy is not complete, because a server runs on the log: stop the server and run the same again."
	}
	err := f.print(c, result, last)
	if err == nil && (!result.Complete || !result.Proof.Equal()) {
		err = errPartly
	}
	return err
}

type logVerify struct {
	stores
	copyFlags
	proofFlags
	File string `arg:"" optional:"" help:"A file that log export wrote, to be checked by itself." type:"existingfile"`
}

// Help shows an example and says what the exit codes mean.
func (logVerify) Help() string {
	return "Example: rapport log verify --data data --to esdb://node1.example:2113\n\n" +
		"Nothing is changed. Ends with 0 when the copy holds the same events as the log, in the same order, and with 3 when it does not, as after it was written to. " +
		"A file is checked by itself: rapport log verify /backup/log.rapport"
}

// Validate refuses nothing to verify, and two things.
func (l logVerify) Validate() error {
	if (l.To == "") == (l.File == "") {
		return errors.New("name either the copy by --to or a file")
	}
	return nil
}

// Run compares and prints the proof.
func (l logVerify) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	if l.File != "" {
		return l.verifyFile(ctx, c, &closing)
	}
	_, source, err := l.history(ctx, c, &closing)
	if err != nil {
		return err
	}
	to, standing, err := l.dial(ctx, c, &closing)
	switch {
	case err != nil:
		return err
	case standing.Unfinished:
		return fmt.Errorf("the copy: %w", eventlog.ErrUnfinishedCopy)
	case standing.Identity.ID == "":
		return fmt.Errorf("there is no log in the namespace %s of the copy", l.ToNamespace)
	}
	proof, err := logcopy.Compare(ctx, source, to, logcopy.Options{Progress: copyingOn(c)})
	if err != nil {
		return err
	}
	err = l.print(c, logcopy.Result{Source: source.Identity(), Copy: standing.Identity, Complete: true, Proof: proof}, "")
	if err == nil && !proof.Equal() {
		err = errPartly
	}
	return err
}

func (l logVerify) verifyFile(ctx context.Context, c *console, closing *closers) error {
	file, err := logcopy.OpenFile(l.File)
	if err != nil {
		return err
	}
	closing.add(file.Close)
	d, err := logcopy.Read(ctx, file, logcopy.Options{Progress: copyingOn(c)})
	if err != nil {
		return err
	}
	if l.Streams != "" {
		if err := writeStreams(l.Streams, d); err != nil {
			return err
		}
	}
	if l.JSON {
		return json.NewEncoder(c.out).Encode(struct {
			Source eventlog.Identity `json:"source"`
			Totals logcopy.Totals    `json:"totals"`
		}{file.Identity(), d.Totals()})
	}
	_, err = fmt.Fprintf(c.out, "%s\nsound\n", totalsText(file.Identity(), d.Totals()))
	return err
}

type logExport struct {
	stores
	writer
	proofFlags
	File string `arg:"" help:"File to write; it must not be there." type:"path"`
}

// Help shows an example.
func (logExport) Help() string {
	return "Example: rapport log export /backup/2026-03-01.rapport --data data\n\n" +
		"The log is written as it stands at the beginning, also while a server runs on it. The file checks itself; it gets its name when it is complete and was read back. " +
		"It holds personal data, and not the key of reservations: keep the key beside it."
}

// Run exports and prints the proof.
func (l logExport) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	source, _, err := l.historyWith(ctx, c, l.Secret, &closing)
	if err != nil {
		return err
	}
	result, err := logcopy.Export(ctx, source, l.File, logcopy.Options{Progress: copyingOn(c)})
	if err != nil {
		return err
	}
	return l.print(c, result, "Keep the key of reservations with the file: it is not in it.")
}

type logImport struct {
	stores
	writer
	proofFlags
	File string `arg:"" help:"A file that log export wrote." type:"existingfile"`
}

// Help shows an example.
func (logImport) Help() string {
	return "Example: rapport log import /backup/2026-03-01.rapport --data restored --secret HEX\n\n" +
		"The file is read whole before anything is written. It goes into a namespace that is empty, of the data directory or of --eventstore, and is read back and compared. " +
		"A run that was interrupted is resumed by the same command. Until the import is complete no server starts on the log. " +
		"The key of reservations of the exported log is demanded, and kept in the data directory unless one is there."
}

// Run imports and prints the proof.
func (l logImport) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	file, err := logcopy.OpenFile(l.File)
	if err != nil {
		return err
	}
	closing.add(file.Close)
	secret, err := l.keptSecret(l.Secret)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the key of reservations of the exported log is needed: give --secret, or put its file %s into %s (%w)", secretFile, l.Data, err)
	}
	if err != nil {
		return err
	}
	if check := file.Identity().Secret; check != "" && check != eventlog.SecretCheck(secret) {
		return fmt.Errorf("%s: %w", l.File, eventlog.ErrOtherSecret)
	}
	to, _, err := l.dialLog(ctx, c.log, &closing, eventlog.WithSecret(secret))
	if err != nil {
		return err
	}
	if _, err := to.AwaitStanding(ctx, startPatience, waitingOn(ctx, c.log)); err != nil {
		return err
	}
	if l.EventStore == "" {
		kept, err := l.keepSecret(secret)
		if err != nil {
			return err
		}
		if !bytes.Equal(kept, secret) {
			return fmt.Errorf("%s holds another key of reservations than --secret", l.Data)
		}
	}
	result, err := logcopy.Copy(ctx, file, to, logcopy.Options{Progress: copyingOn(c)})
	if err != nil {
		return err
	}
	return l.finish(c, result, false)
}
