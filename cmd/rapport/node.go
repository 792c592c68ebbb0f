package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rapport-crm/rapport/internal/esnode"
)

type nodeCommand struct {
	Run    nodeRun    `cmd:"" default:"withargs" help:"Serve the log; what node alone does too."`
	Verify nodeVerify `cmd:"" help:"Read the whole log of a stopped server or node and prove that it is sound."`
	Backup nodeBackup `cmd:"" help:"Copy the log, also while a server or node runs on it."`
}

// Help shows an example.
func (nodeCommand) Help() string { return "Example: rapport node --data data --listen 127.0.0.1:2113" }

// logFlags choose the log of the embedded node.
type logFlags struct {
	Data string `help:"Directory of the installation; the log lies in its folder events; ${default} when left out." default:"data" type:"path" placeholder:"DIR"`
}

func (l logFlags) dir() string { return filepath.Join(l.Data, nodeDir) }

type nodeRun struct {
	logFlags
	Listen address `help:"Loopback address to listen on; ${default} when left out." default:"127.0.0.1:2113" placeholder:"HOST:PORT"`
}

// Help shows an example.
func (nodeRun) Help() string {
	return "Example: rapport node --data data --listen 127.0.0.1:2113\n\n" +
		"Any EventStoreDB client may connect with the connection string that is printed. One process at a time uses a directory."
}

// Run serves until the context ends.
func (n nodeRun) Run(ctx context.Context, c *console) error {
	s := stores{Data: n.Data}
	if err := s.prepare(); err != nil {
		return err
	}
	node, err := openNode(ctx, esnode.Options{Dir: n.dir(), Listen: string(n.Listen), Logger: c.log})
	if err != nil {
		return err
	}
	fmt.Fprintln(c.out, node.ConnectionString())
	<-ctx.Done()
	return node.Close()
}

type nodeVerify struct {
	logFlags
	JSON bool `name:"json" help:"Print the report as JSON."`
}

// Help shows an example and says what the exit codes mean.
func (nodeVerify) Help() string {
	return "Example: rapport node verify --data data\n\n" +
		"Nothing is changed. Ends with 0 when the log is sound, with 3 when something is damaged, and with 1 when the log cannot be read, " +
		"such as while a server or node runs on it: stop that, or make a copy with rapport node backup DIR, which verifies it."
}

// Run prints every damage and a summary.
func (n nodeVerify) Run(ctx context.Context, c *console) error {
	report, err := esnode.Verify(ctx, n.dir(), verifyProgress(c))
	if errors.Is(err, esnode.ErrLocked) {
		return fmt.Errorf("%w: stop it, or make a verified copy with rapport node backup DIR --data %s", err, n.Data)
	}
	if err != nil {
		return err
	}
	if n.JSON {
		err = json.NewEncoder(c.out).Encode(report)
	} else {
		printReport(c, report)
	}
	if err == nil && report.Damaged > 0 {
		err = errPartly
	}
	return err
}

// verifyProgress shows on the console how a verification goes.
func verifyProgress(c *console) func(esnode.VerifyProgress) {
	shown, part := c.progress(""), ""
	return func(p esnode.VerifyProgress) {
		if p.Part != part {
			part = p.Part
			shown.begin("verify " + p.Part)
		}
		done, total := int64(p.Done), int64(p.Total)
		if text := shown.pace(done, p.Part, done, total); done == total {
			shown.end(done, total, text)
		} else {
			shown.step(done, total, text)
		}
	}
}

func printReport(c *console, r *esnode.VerifyReport) {
	for _, d := range r.Damages {
		fmt.Fprintln(c.out, damageText(d))
	}
	if rest := r.Damaged - uint64(len(r.Damages)); rest > 0 {
		fmt.Fprintf(c.out, "and %d more\n", rest)
	}
	verdict := "sound"
	if r.Damaged > 0 {
		verdict = fmt.Sprintf("%d damages", r.Damaged)
	}
	fmt.Fprintf(c.out, "log %s up to position %d: %d events, %d index entries, %d streams: %s\n", r.LogID, r.Head, r.Events, r.Entries, r.Streams, verdict)
}

func damageText(d esnode.Damage) string {
	var b strings.Builder
	fmt.Fprintf(&b, "DAMAGED %s", d.Kind)
	if d.Position > 0 {
		fmt.Fprintf(&b, " at position %d", d.Position)
	}
	if d.Stream != "" {
		fmt.Fprintf(&b, ", stream %q", d.Stream)
	}
	if d.Revision != nil {
		fmt.Fprintf(&b, ", revision %d", *d.Revision)
	}
	return b.String() + ": " + d.Problem
}

type nodeBackup struct {
	logFlags
	Target string `arg:"" name:"dir" help:"Directory for the copy; it must be empty or not exist." type:"path"`
	JSON   bool   `name:"json" help:"Print the report of the copy's verification as JSON."`
}

// Help shows an example.
func (nodeBackup) Help() string {
	return "Example: rapport node backup /backup/2026-03-01 --data data\n\n" +
		"The copy is a data directory: the log as it is at one moment, verified, and the key of reservations. Everything that was acknowledged before is in it. " +
		"A copy that was cut short or is damaged is left in " + partialDir + " and not taken for a whole one."
}

// partialDir is the name of a copy of the log that is not known to be whole and sound.
const partialDir = nodeDir + ".partial"

// Run copies, verifies, and only then gives the copy its name.
func (n nodeBackup) Run(ctx context.Context, c *console) error {
	if err := emptyDir(n.Target); err != nil {
		return err
	}
	partial := filepath.Join(n.Target, partialDir)
	head, err := esnode.Backup(ctx, n.dir(), partial)
	if err != nil {
		return err
	}
	report, err := esnode.Verify(ctx, partial, verifyProgress(c))
	if err != nil {
		return fmt.Errorf("verify the copy: %w", err)
	}
	if report.Damaged > 0 || report.Head < head {
		printReport(c, report)
		return fmt.Errorf("the copy in %s is damaged, and so may be the log: rapport node verify --data %s says more", partial, n.Data)
	}
	if err := copySecret(n.Data, n.Target); err != nil {
		return err
	}
	if err := os.Rename(partial, filepath.Join(n.Target, nodeDir)); err != nil {
		return err
	}
	if err := errors.Join(syncDir(n.Target), syncDir(filepath.Dir(n.Target))); err != nil { // its name, too, may be new
		return err
	}
	if n.JSON {
		return json.NewEncoder(c.out).Encode(report)
	}
	printReport(c, report)
	return nil
}

// emptyDir makes a directory, or finds that it is there and empty.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s is not empty: a backup needs a directory of its own", dir)
	}
	return err
}

// copySecret copies the key of reservations, where the installation keeps one.
func copySecret(from, to string) error {
	key, err := os.ReadFile(filepath.Join(from, secretFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(to, secretFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(key)
	return errors.Join(err, file.Sync(), file.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
