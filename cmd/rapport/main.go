// Command rapport is the one binary of Rapport: the server, the importer, the embedded event node, and the tools that look
// after them. This package only wires the parts.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	_ "time/tzdata" // zones by name, also where the machine has none

	"github.com/alecthomas/kong"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/projections/whatif"
)

// version is set by the build; empty means built without a clone.
var version string

// Exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2 // wrong flags, or a wrong mapping or file of parameters
	exitPartly   = 3 // done, but something was rejected, parked, halted or missing
	exitSignal   = 130
	exitCodeHelp = `Exit codes: 0 done, also a server or a node that was asked to stop; 1 failed; 2 wrong usage, mapping or parameters; 3 done, but rows were rejected, events are parked, a projection is halted or something is missing or damaged; 70 the event log could not be written to disk; 130 interrupted.`
)

// errPartly makes the process end with exitPartly; what was wrong has been printed.
var errPartly = errors.New("done in part")

// usageError says that a flag cannot be right, which was found out only when the stores were open. It makes the process end
// with exitUsage.
type usageError struct{ problem string }

func (e *usageError) Error() string { return e.problem }

// cli is the whole command line. Every flag may be given as RAPPORT_<FLAG> in the environment.
type cli struct {
	Serve       serveCommand                `cmd:"" help:"Run the API, the projectors, the reactors, the processes, the timer and, unless told otherwise, the event node and a private PostgreSQL."`
	Import      importCommand               `cmd:"" help:"Turn rows of files into commands, as a mapping says."`
	Log         logCommand                  `cmd:"" help:"Carry the whole log elsewhere: copy, compare, export into a file, import from one."`
	Node        nodeCommand                 `cmd:"" help:"Run the embedded event node alone."`
	Projections projectionsCommand          `cmd:"" help:"Look after the read models: status, rebuild, parked events."`
	Reactors    followersCommand[reactors]  `cmd:"" help:"Look after what publishes events: status, events that cannot be published."`
	Processes   followersCommand[processes] `cmd:"" help:"Look after what turns events into commands: status, events that cannot be handled."`
	Readers     readersCommand              `cmd:"" help:"Say which logins of the database read which tenants by SQL."`
	Events      eventsCommand               `cmd:"" help:"Print events of the log."`
	Replay      replayCommand               `cmd:"" help:"Replay what happened to a record, or what would be if a rule were another."`
	Doctor      doctorCommand               `cmd:"" help:"Check what this machine and this configuration have and lack."`
	Version     versionCommand              `cmd:"" help:"Print the version."`
}

// console is where a verb prints: data to out, the rest to err.
type console struct {
	out, err io.Writer
	log      *slog.Logger
	spans    sdktrace.SpanExporter // where tests receive traces; nil means as the environment says
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal asks to stop; a second one kills
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes a command line until it is done or ctx ends, and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := &console{out: stdout, err: stderr, log: slog.New(slog.NewJSONHandler(stderr, nil))}

	var commandLine cli
	exit := -1
	parser, err := kong.New(&commandLine,
		kong.Name("rapport"),
		kong.Description("Rapport, an event-sourced CRM engine.\n\nExample: rapport serve --data data --sample\n\n"+exitCodeHelp),
		kong.DefaultEnvars("RAPPORT"),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 110}),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exit = code }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(c),
	)
	if err != nil {
		fmt.Fprintln(stderr, "rapport:", domain.Shown(err))
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // --help has printed
		return exit
	}
	if err != nil {
		fmt.Fprintf(stderr, "rapport: %s (try rapport --help)\n", domain.Shown(err))
		return exitUsage
	}
	err = parsed.Run()
	var mapping *importer.MappingError
	var parameters *whatif.FileError
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errPartly):
		return exitPartly
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(stderr, "rapport: interrupted")
		return exitSignal
	case errors.As(err, &mapping), errors.As(err, &parameters), errors.As(err, &usage):
		fmt.Fprintln(stderr, "rapport:", domain.Shown(err))
		return exitUsage
	}
	fmt.Fprintln(stderr, "rapport:", domain.Shown(err))
	return exitFailed
}

type versionCommand struct{}

// Help shows an example.
func (versionCommand) Help() string { return "Example: rapport version" }

// Run prints the version of the build and of Go.
func (versionCommand) Run(c *console) error {
	info, _ := debug.ReadBuildInfo()
	fmt.Fprintf(c.out, "rapport %s, %s\n", versionText(), info.GoVersion)
	return nil
}

func versionText() string {
	if version == "" {
		return "(unversioned build)"
	}
	return version
}
