// Command bench measures Rapport on the machine it runs on and prints a report in Markdown: ratios within one run, because
// absolute figures say more about the machine than about the product.
//
// Everything runs below a temporary directory and on loopback, the real binary included, which is built first. It stops by
// itself after some minutes, and on Ctrl-C; what it has measured by then is printed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rapport-crm/rapport/internal/localpg"
)

// config is what the flags say.
type config struct {
	only    []string
	data    string
	temp    string
	profile string

	slice    time.Duration
	rounds   int
	gogc     []int
	events   int
	history  int
	baseline int
	lines    int
	query    time.Duration
	visible  time.Duration
	idleTime time.Duration
	rate     int
	seed     uint64
}

// parts are the measurements in their order.
var parts = []struct {
	key, title string
	run        func(*bench, context.Context) error
}{
	{"a", "Durable appends", (*bench).appends},
	{"b", "Commands over HTTP", (*bench).commands},
	{"c", "Catch-up of all read models", (*bench).catchUp},
	{"d", "Import", (*bench).imports},
	{"e", "Queries", (*bench).queries},
	{"f", "From append to row", (*bench).visibility},
	{"g", "Rebuilding all read models", (*bench).rebuilds},
	{"h", "From append to row, while rebuilding", (*bench).visibilityInRebuild},
	{"i", "Queries as of the past", (*bench).asOf},
	{"j", "An idle server", (*bench).idle},
}

func parseFlags(args []string) (config, error) {
	var c config
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	only := f.String("only", "", "parts to run, such as a,c; all when empty: a appends, b commands, c catch-up, d import, e queries, f visibility, g rebuild, h visibility while rebuilding, i the past, j idle")
	gogc := f.String("gogc", "100,200,400", "values of GOGC that part b compares; none when empty")
	f.StringVar(&c.data, "data", filepath.Join("..", "shared", "data"), "folder of the sample data; files of the same shape are made when it is absent")
	f.StringVar(&c.temp, "temp", "", "folder for temporary files; it should be on the disk to be measured")
	f.StringVar(&c.profile, "profile", "", "folder for a CPU profile of part c; none when empty")
	f.DurationVar(&c.slice, "slice", 3*time.Second, "length of one slice of load in parts a and b")
	f.IntVar(&c.rounds, "rounds", 3, "slices of each kind in parts a and b")
	f.IntVar(&c.events, "events", 200_000, "events of part c")
	f.IntVar(&c.history, "history", 1_000_000, "events of parts g to j")
	f.IntVar(&c.baseline, "baseline", 3_000, "events of parts c and g that the baseline applies")
	f.IntVar(&c.lines, "lines", 0, "lines of the file that part d imports; 0 means all")
	f.DurationVar(&c.query, "query", 2*time.Second, "length of one slice of load in part e")
	f.DurationVar(&c.visible, "visible", 10*time.Second, "length of part f, and of each half of part h")
	f.DurationVar(&c.idleTime, "idle", 20*time.Second, "length of part j")
	f.IntVar(&c.rate, "rate", 200, "commands per second in part f")
	f.Uint64Var(&c.seed, "seed", 1, "of everything invented")
	if err := f.Parse(args); err != nil {
		return c, err
	}
	if *only != "" {
		c.only = strings.Split(*only, ",")
	}
	for _, key := range c.only {
		if !slices.ContainsFunc(parts, func(p struct {
			key, title string
			run        func(*bench, context.Context) error
		}) bool {
			return p.key == key
		}) {
			return c, fmt.Errorf("there is no part %q", key)
		}
	}
	for text := range strings.SplitSeq(*gogc, ",") {
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return c, fmt.Errorf("-gogc: %w", err)
		}
		c.gogc = append(c.gogc, n)
	}
	return c, nil
}

// bench is one run.
type bench struct {
	config
	dir    string    // of everything temporary
	out    io.Writer // the report
	binary string    // the real one; empty until built
	loaded *loaded   // the server with imported data, of parts d to f
	past   *aged     // the server over a generated log, of parts g to j
	slow   float64   // events per second in transactions of their own; 0 until measured
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := parseFlags(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(ctx, c, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, c config, out io.Writer) (err error) {
	debug.SetGCPercent(serverGOGC) // parts of this process stand for parts of the server
	b := &bench{config: c, out: out}
	if b.dir, err = os.MkdirTemp(c.temp, "rapport-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	defer func() {
		if b.loaded != nil {
			err = errors.Join(err, b.loaded.stop())
		}
		if b.past != nil {
			err = errors.Join(err, b.past.stop())
		}
	}()
	start := time.Now()
	b.describeMachine()
	for _, part := range parts {
		if c.only != nil && !slices.Contains(c.only, part.key) {
			continue
		}
		b.say("part %s: %s", part.key, part.title)
		fmt.Fprintf(out, "\n## %s (%s)\n\n", part.title, part.key)
		if err := part.run(b, ctx); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return fmt.Errorf("part %s: %w", part.key, err)
		}
	}
	fmt.Fprintf(out, "\nThe whole run took %s.\n", time.Since(start).Round(time.Second))
	return nil
}

// say tells of progress.
func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// folder makes a folder below the temporary one.
func (b *bench) folder(name string) (string, error) {
	dir := filepath.Join(b.dir, name)
	return dir, os.MkdirAll(dir, 0o755)
}

// discard removes a data folder of a server, its PostgreSQL cluster included, which may lie elsewhere.
func discard(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return errors.Join(localpg.Remove(ctx, filepath.Join(dir, "postgres")), os.RemoveAll(dir))
}

// build builds the real binary, once.
func (b *bench) build(ctx context.Context) error {
	if b.binary != "" {
		return nil
	}
	b.say("building cmd/rapport")
	binary := filepath.Join(b.dir, "rapport")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", binary, "github.com/rapport-crm/rapport/cmd/rapport")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build cmd/rapport: %w\n%s", err, text)
	}
	b.binary = binary
	return nil
}
