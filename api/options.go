package api

import (
	"context"
	"iter"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// Limits of the HTTP server. Each is far above what a well-behaved client needs.
const (
	MaxBodyBytes          = 1 << 20 // of a request
	MaxBatchBytes         = 8 << 20 // of a request with a batch of commands
	MaxBatchItems         = 1_000
	MaxHeaderBytes        = 64 << 10
	MaxConnections        = 4_096            // open at the same time
	MaxConcurrentCommands = 512              // in execution at the same time; more are answered 503 at once
	MaxStreams            = 256              // live feeds open at the same time
	MaxHeavyReads         = 32               // answers in the making at the same time that are folded from the log: as of the past, histories, replays, explanations; more are answered 503 at once
	ReadHeaderTimeout     = 5 * time.Second  //
	ReadTimeout           = 30 * time.Second // of a whole request
	WriteTimeout          = 60 * time.Second // of a whole answer; streams have StreamWriteTimeout per write instead
	StreamWriteTimeout    = 15 * time.Second // until a reader of a stream must have taken what was written
	IdleTimeout           = 2 * time.Minute  // of a connection between requests
	StopTimeout           = 20 * time.Second // for requests in flight when the server stops
	Heartbeat             = 15 * time.Second // between comments on a quiet live feed
)

// Bus executes commands; *commands.Bus is one.
type Bus interface {
	Submit(ctx context.Context, req commands.Request) (commands.Receipt, error)
	Definitions() []domain.Definition
}

// EventLog is what the feed needs of the event log.
type EventLog interface {
	Read(ctx context.Context, stream domain.StreamID, from uint64) iter.Seq2[domain.Recorded, error]
	ReadAll(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
	Subscribe(ctx context.Context, after domain.Position) iter.Seq2[domain.Recorded, error]
	Head(ctx context.Context) (domain.Mark, error)
}

// Historian computes from the log what happened to records and to everything linked to them.
type Historian interface {
	// Place returns the position of an event, or *domain.NotFoundError when the log does not hold it.
	Place(ctx context.Context, caller domain.Caller, event domain.ID) (domain.Position, error)
	// Customer returns up to limit entries after a position, in the order of the log; Next is the position after which to go
	// on. It returns *domain.NotFoundError for a customer that never existed.
	Customer(ctx context.Context, caller domain.Caller, customer domain.ID, after domain.Position, limit int) (query.List[query.HistoryEntry], error)
	// Replay returns up to limit entries behind the event at a position, as of a moment, zero for now, each with the state
	// of the record after it, and the position that the answer reflects. It returns *domain.NotFoundError for a record that
	// did not exist.
	Replay(ctx context.Context, caller domain.Caller, aggregate string, id domain.ID, m query.AsOf, after domain.Position, limit int) ([]query.ReplayEntry[any], domain.Position, error)
	// Explain returns the events that give a value of a record, as of a moment. It returns *domain.NotFoundError for a
	// record that did not exist and *domain.InvalidError for a field that there is not.
	Explain(ctx context.Context, caller domain.Caller, aggregate string, id domain.ID, m query.AsOf, field string, now time.Time) (query.Explanation, error)
}

// ProjectionStatus says how one projection stands.
type ProjectionStatus struct {
	Name             string           `json:"name" doc:"The projection."`
	Version          int              `json:"version" doc:"Version of its table."`
	State            string           `json:"state" doc:"running, rebuilding (nothing serves yet, or what serves stands still until a newer version is built), waiting (nobody works on it) or halted (it needs help)."`
	Readable         bool             `json:"readable" doc:"Whether queries can be answered: a table serves, and has the columns that they need."`
	Healthy          bool             `json:"healthy" doc:"Whether it needs nobody's attention."`
	Problem          string           `json:"problem,omitempty" doc:"Why it is halted, or what it waits for."`
	Remedy           string           `json:"remedy,omitempty" doc:"The command that heals that, where there is one that always does."`
	Position         domain.Position  `json:"position" doc:"Place in the log of the last event that its rows reflect."`
	Head             *domain.Position `json:"head,omitempty" doc:"Place of the last event of the log; absent when the log does not answer."`
	LagEvents        int              `json:"lagEvents" doc:"Events not applied yet, counted to 1,000; -1 when not known."`
	LagSeconds       float64          `json:"lagSeconds" doc:"Age of the first event that is not applied; 0 when there is none."`
	HeartbeatSeconds float64          `json:"heartbeatSeconds" doc:"Time since somebody was seen working on it; -1 when nobody ever was."`
	ParkedStreams    int              `json:"parkedStreams" doc:"Streams with an event that could not be applied."`
	ParkedEvents     int              `json:"parkedEvents" doc:"Events that wait in them."`

	Builds []ProjectionBuild `json:"builds" doc:"All its tables: the one that serves, one being built beside it, those kept for the way back."`
}

// ProjectionBuild is how one table of a projection stands.
type ProjectionBuild struct {
	Version         int             `json:"version" doc:"Version of the declaration."`
	Build           int             `json:"build" doc:"Number of the table within the version."`
	Stage           string          `json:"stage" doc:"building, indexing, tailing, verifying, ready (waits for the switch), serving, standby (kept up to date for the way back) or retired."`
	Problem         string          `json:"problem,omitempty" doc:"Why it cannot go on."`
	Hold            bool            `json:"hold,omitempty" doc:"Whether the switch is left to somebody."`
	Position        domain.Position `json:"position" doc:"Place in the log of the last event that it has."`
	EventsPerSecond float64         `json:"eventsPerSecond" doc:"Events of the log read per second, lately."`
	Percent         float64         `json:"percent" doc:"Share of the log's events read, as far as the tables that serve have seen them; -1 when not known."`
	SecondsLeft     float64         `json:"secondsLeft" doc:"Until the log is read, at that rate; 0 when it is, -1 when not known."`
	DropAt          *time.Time      `json:"dropAt,omitempty" doc:"When the table may be dropped; absent while it is needed."`
}

// RebuildRequest says how a projection is to be built anew.
type RebuildRequest struct {
	Hold bool `json:"hold,omitempty" doc:"Leave the switch to the operation of that name."`
	Park bool `json:"park,omitempty" doc:"Park what cannot be applied, instead of giving up there."`

	With []string `json:"with,omitempty" maxItems:"100" doc:"Other projections to build anew in the same scan of the log."`
}

// AbandonedBuild is a table that was dropped before it served.
type AbandonedBuild struct {
	Version int    `json:"version" doc:"Version of the declaration."`
	Build   int    `json:"build" doc:"Number of the table within the version."`
	Stage   string `json:"stage" doc:"How far it was: building, indexing, tailing, verifying or ready."`
}

// ParkedStream is a stream that a projection could not digest.
type ParkedStream struct {
	Version  int           `json:"version" doc:"Version of the table that lacks the events."`
	Build    int           `json:"build" doc:"Number of that table within the version."`
	Stream   string        `json:"stream" doc:"The stream."`
	Error    string        `json:"error" doc:"Why its first event could not be applied."`
	ParkedAt time.Time     `json:"parkedAt" doc:"Since when it waits."`
	Events   []ParkedEvent `json:"events" doc:"What waits, in order; the first is the one that failed."`
}

// ParkedEvent is an event that waits.
type ParkedEvent struct {
	ID       string          `json:"id" doc:"The event."`
	Type     string          `json:"type" doc:"Its permanent name."`
	Revision uint64          `json:"revision" doc:"Its number in the stream."`
	Position domain.Position `json:"position" doc:"Its place in the log."`
}

// Projections looks after the projections. All but Status return *domain.NotFoundError for a projection that is not
// declared.
type Projections interface {
	Status(ctx context.Context) ([]ProjectionStatus, error)
	Rebuild(ctx context.Context, name, actor string, req RebuildRequest) error // starts it; Status shows how it goes
	Switch(ctx context.Context, name, actor string) error                      // to the build that was held
	Rollback(ctx context.Context, name, actor string) error                    // to the build that served before
	Abandon(ctx context.Context, name, actor string) ([]AbandonedBuild, error) // what has never served
	Parked(ctx context.Context, name string) ([]ParkedStream, error)
	Retry(ctx context.Context, name, stream, actor string) (applied int, err error)           // every parked stream when stream is empty
	Discard(ctx context.Context, name, stream, actor, reason string) (dropped int, err error) // every parked stream when stream is empty
}

// Degraded marks an error of a Probe: something needs attention, and the server answers all the same. A nil error stays nil.
func Degraded(err error) error {
	if err == nil {
		return nil
	}
	return &degradedError{err}
}

// Probe is one thing that must be well for the server to be ready, unless what Check returns is Degraded. Check ends soon
// after its context; until it does, it is not called again.
type Probe struct {
	Name  string
	Check func(context.Context) error
}

// Options says what a Server serves. Bus, Reads and Log are required.
type Options struct {
	Bus         Bus
	Reads       *query.Store
	Log         EventLog
	Past        Past                         // answers as of the past; nil refuses them
	History     func(*query.Store) Historian // over the read models of a moment; nil leaves the route of histories out
	Tenants     []domain.Tenant              // that requests may name; the first for those that name none; the default tenant alone when empty
	Words       *domain.Phrasebook           // tells events; nil tells them by their names alone
	Projections Projections                  // nil leaves the administration of projections out
	Probes      []Probe                      // of readiness; the API's own are added
	Metrics     *prometheus.Registry         // gets the metrics of requests and is served at /metrics; nil means a registry of its own
	Clock       func() time.Time             // time.Now when nil
	Logger      *slog.Logger                 // discards when nil
	Version     string                       // of the product, for the OpenAPI document; "dev" when empty
	Tracer      trace.Tracer                 // of requests and commands; nil means none
	HealthOnly  bool                         // serve health and metrics and nothing else; Bus is not needed then

	MaxBodyBytes          int64 // MaxBodyBytes when zero
	MaxBatchBytes         int64 // MaxBatchBytes when zero
	MaxConcurrentCommands int   // MaxConcurrentCommands when zero
	MaxHeavyReads         int   // MaxHeavyReads when zero
	MaxConnections        int   // MaxConnections when zero
}

func (o Options) withDefaults() Options {
	if o.Metrics == nil {
		o.Metrics = prometheus.NewRegistry()
	}
	if len(o.Tenants) == 0 {
		o.Tenants = []domain.Tenant{domain.DefaultTenant}
	}
	if o.Words == nil {
		o.Words = &domain.Phrasebook{}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.MaxBodyBytes == 0 {
		o.MaxBodyBytes = MaxBodyBytes
	}
	if o.MaxBatchBytes == 0 {
		o.MaxBatchBytes = MaxBatchBytes
	}
	if o.MaxConcurrentCommands == 0 {
		o.MaxConcurrentCommands = MaxConcurrentCommands
	}
	if o.MaxHeavyReads == 0 {
		o.MaxHeavyReads = MaxHeavyReads
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = MaxConnections
	}
	return o
}
