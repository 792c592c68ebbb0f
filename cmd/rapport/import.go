package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/importer"
)

// importCacheBytes is what the bus may keep of states during an import: less than a server's, because few rows come back to
// what rows far before them made.
const importCacheBytes = 16 << 20

// maxImportWriters bounds --writers.
const maxImportWriters = 1024

type importCommand struct {
	stores
	writer
	tenant
	Mapping string   `help:"Mapping file, or the name of one that ships: sales-pipeline, online-retail, bank-contacts." required:"" placeholder:"M.yaml"`
	Rejects string   `help:"File for the rejected rows; by default in the data directory." type:"path" placeholder:"FILE"`
	Writers int      `help:"Rows, or groups of rows, submitted at the same time." default:"64"`
	JSON    bool     `name:"json" help:"Print the counts as JSON."`
	Files   []string `arg:"" help:"The files that the mapping names; .gz is accepted." type:"existingfile"`
}

// Help shows an example.
func (importCommand) Help() string {
	return "Example: rapport import --data data --mapping sales-pipeline accounts.csv products.csv sales_teams.csv sales_pipeline.csv\n\n" +
		"Works whether or not a server runs on the data directory. Importing twice changes nothing; an interrupted import is resumed by starting it again. " +
		"The mapping is checked whole before the first row."
}

// Validate refuses values that cannot be right.
func (i importCommand) Validate() error {
	if i.Writers < 1 || i.Writers > maxImportWriters {
		return fmt.Errorf("--writers %d is not from 1 to %d", i.Writers, maxImportWriters)
	}
	return nil
}

// Run imports the files and prints the counts.
func (i importCommand) Run(ctx context.Context, c *console) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	mapping, err := i.openMapping()
	if err != nil {
		return err
	}
	secret, err := i.secret(i.Secret)
	if err != nil {
		return err
	}
	l, err := i.openLog(ctx, c.log, &closing, eventlog.WithSecret(secret))
	if err != nil {
		return err
	}
	bus := newBus(l, secret, commands.Options{Logger: c.log, StreamCacheBytes: importCacheBytes})
	if i.Rejects == "" {
		i.Rejects = filepath.Join(i.Data, importsDir, mapping.Source+"-rejects.csv")
	}
	result, err := i.execute(ctx, c, bus, mapping)
	if result.Source != "" {
		if printErr := i.print(c, result, err == nil); printErr != nil {
			err = errors.Join(err, printErr)
		}
	}
	if err == nil && rejected(result) > 0 {
		return errPartly
	}
	return err
}

// execute runs the import through the bus and shows its progress.
func (i importCommand) execute(ctx context.Context, c *console, bus *commands.Bus, mapping *importer.Mapping) (importer.Result, error) {
	actor := domain.Actor{ID: "import:" + mapping.Source, Kind: domain.ActorIntegration}
	caller := i.by(actor)
	plan, err := importer.Compile(mapping, i.Files, bus.Definitions(), func(key, aggregate string) domain.ID {
		return bus.ID(caller.Tenant, actor, key, aggregate)
	})
	if err != nil {
		return importer.Result{}, err
	}
	if err := bus.Prime(ctx, caller.Tenant); err != nil {
		return importer.Result{}, err
	}
	rejects, err := i.openRejects()
	if err != nil {
		return importer.Result{}, err
	}
	result, err := plan.Run(ctx, importer.Options{
		Submit:   submitTo(bus, caller),
		Rejects:  rejects,
		Writers:  i.Writers,
		Progress: progressOn(c),
	})
	return result, errors.Join(err, rejects.Close())
}

// openRejects makes the file for rejected rows anew, unless that would be one of the files to read.
func (i importCommand) openRejects() (*os.File, error) {
	if old, err := os.Stat(i.Rejects); err == nil {
		for _, path := range append([]string{i.Mapping}, i.Files...) {
			if read, err := os.Stat(path); err == nil && os.SameFile(old, read) {
				return nil, fmt.Errorf("--rejects %s is a file to read; it would be overwritten", i.Rejects)
			}
		}
	}
	if err := os.MkdirAll(filepath.Dir(i.Rejects), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(i.Rejects, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
}

func (i importCommand) openMapping() (*importer.Mapping, error) {
	if slices.Contains(importer.ShippedNames(), i.Mapping) {
		return importer.Shipped(i.Mapping)
	}
	file, err := os.Open(i.Mapping)
	if err != nil {
		return nil, &importer.MappingError{Message: fmt.Sprintf("%v (mappings that ship: %s)", err, strings.Join(importer.ShippedNames(), ", "))}
	}
	defer file.Close()
	return importer.ParseMapping(file)
}

// submitTo adapts the bus to what the importer needs.
func submitTo(bus *commands.Bus, caller domain.Caller) importer.Submit {
	return func(ctx context.Context, s importer.Submission) (bool, error) {
		receipt, err := bus.Submit(ctx, commands.Request{
			Tenant: caller.Tenant, Actor: caller.Actor, Key: s.Key, Target: s.Target, Command: s.Command,
		})
		return err == nil && !receipt.Replayed && !receipt.Unchanged, err
	}
}

// progressOn shows on the console how an import goes, measured in bytes of the file that is read.
func progressOn(c *console) func(importer.Progress) {
	shown, pass := c.progress(""), 0
	return func(p importer.Progress) {
		if p.Pass != pass {
			pass = p.Pass
			shown.begin(fmt.Sprintf("%s (%d of %d)", p.File, p.Pass, p.Passes))
		}
		text := fmt.Sprintf("%d rows, %.0f a second, %d commands, %s left", p.Rows, p.Rate, p.Commands, p.Remaining.Round(time.Second))
		if p.Ended {
			shown.end(p.Read, p.Size, text)
		} else {
			shown.step(p.Read, p.Size, text)
		}
	}
}

func rejected(r importer.Result) (rows int64) {
	for _, in := range r.Inputs {
		rows += in.RowsRejected
	}
	return rows
}

// print writes the counts, which add up, and the oddities that the mapping asked to count. The import is whole when nothing
// stopped it.
func (i importCommand) print(c *console, r importer.Result, whole bool) error {
	if i.JSON {
		return json.NewEncoder(c.out).Encode(r)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "file\trows\trejected\tunits\tcommands\taccepted\tunchanged\trejected\tnot tried\t")
	var accepted, unchanged int64
	for _, in := range r.Inputs {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", in.File, in.Rows, in.RowsRejected, in.Units, in.Commands, in.Accepted, in.Unchanged, in.Rejected, in.NotTried)
		accepted, unchanged = accepted+in.Accepted, unchanged+in.Unchanged
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, o := range r.Reports {
		if o.Value == "" {
			fmt.Fprintf(c.out, "%s: %s: %d\n", o.File, o.Message, o.Units)
		} else {
			fmt.Fprintf(c.out, "%s: %s: %q, %d\n", o.File, o.Message, o.Value, o.Units)
		}
	}
	for _, name := range r.NotRead {
		fmt.Fprintf(c.out, "%s: not read, because the mapping does not name it\n", name)
	}
	if whole && accepted == 0 && unchanged > 0 && rejected(r) == 0 {
		fmt.Fprintln(c.out, "Nothing has changed: everything had been imported before.")
	}
	if n := rejected(r); n > 0 {
		fmt.Fprintf(c.out, "%d rows were rejected; they are in %s with their reasons.\n", n, i.Rejects)
	}
	return nil
}
