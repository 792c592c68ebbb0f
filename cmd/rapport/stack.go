package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/areas"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/codec"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
	"github.com/rapport-crm/rapport/internal/localpg"
	"github.com/rapport-crm/rapport/projections"
	"github.com/rapport-crm/rapport/projections/history"
	"github.com/rapport-crm/rapport/projections/runner"
	"github.com/rapport-crm/rapport/readmodels/migrations"
)

// Names below the data directory.
const (
	nodeDir     = "events"       // the embedded node's store
	postgresDir = "postgres"     // the private PostgreSQL
	importsDir  = "imports"      // rejects files
	secretFile  = "secret"       // key of the hashes that name reservations
	runFile     = "running.json" // where a running server listens, for the other verbs
)

// stores are the flags that choose where the truth and the read models live.
type stores struct {
	Data       string `help:"Directory of everything that this installation keeps; ${default} when left out." default:"data" type:"path" placeholder:"DIR"`
	EventStore string `name:"eventstore" help:"Connection string of an EventStoreDB, esdb://…; the embedded node when left out." placeholder:"URL"`
	Namespace  string `help:"Name of this installation in the event log, before all of its streams: others may write there too. 1 to 32 of a-z, 0-9 and _." default:"rapport" placeholder:"NAME"`
	Postgres   string `help:"Connection string of a PostgreSQL, postgres://…; a private one when left out." placeholder:"URL"`
}

// external reports whether nothing of the installation lives below the data directory.
func (s stores) external() bool { return s.EventStore != "" && s.Postgres != "" }

// writer are the flags of the verbs that write events.
type writer struct {
	Secret string `help:"Key of the hashes that name reserved tax ids, e-mails and phones: 64 hexadecimal digits, the same for the whole life of the log. Kept in the data directory when left out; required with --eventstore unless it is there." placeholder:"HEX"`
}

// tenantName is the name of a tenant, as the user writes it.
type tenantName string

// Validate refuses what no tenant is called.
func (t tenantName) Validate() error {
	_, err := domain.ParseTenant(string(t))
	return err
}

// tenant is the flag of the verbs that are about the records of one tenant.
type tenant struct {
	Tenant tenantName `help:"The company whose records are meant; ${default} when left out." default:"main" placeholder:"NAME"`
}

// by returns whoever asks for something of the tenant.
func (t tenant) by(actor domain.Actor) domain.Caller {
	return domain.Caller{Tenant: domain.Tenant(t.Tenant), Actor: actor}
}

// address is a place to listen on.
type address string

// Validate refuses what is not HOST:PORT.
func (a address) Validate() error {
	_, port, err := net.SplitHostPort(string(a))
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err
}

// running says where a server that uses a data directory can be reached.
type running struct {
	PID        int      `json:"pid"`
	EventStore string   `json:"eventstore"`
	Postgres   string   `json:"postgres"`
	API        string   `json:"api"`
	Roles      []string `json:"roles"`
}

// closers closes what was opened, in reverse order.
type closers []func() error

func (c *closers) add(f func() error) { *c = append(*c, f) }

// Close closes everything and joins the errors.
func (c closers) Close() error {
	var errs []error
	for i := len(c) - 1; i >= 0; i-- {
		errs = append(errs, c[i]())
	}
	return errors.Join(errs...)
}

// prepare makes the data directory. One without a log is new: it is not to take up what PostgreSQL keeps elsewhere of a
// directory that was deleted.
func (s stores) prepare() error {
	if err := os.MkdirAll(s.Data, 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(s.Data, nodeDir)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return localpg.Claim(filepath.Join(s.Data, postgresDir))
}

// log is the event log and what is built directly on it.
type log struct {
	eventlog.Log
	URL      string
	Registry *codec.Registry
	Store    *eventlog.Store
}

// startPatience is how long a start waits for what passes by itself: a node that is not there yet, or that has no leader.
const startPatience = 30 * time.Second

// openLog connects to the event log that the flags choose, and waits until it can be worked with. It returns an
// *eventlog.ProbeError when it cannot.
func (s stores) openLog(ctx context.Context, logger *slog.Logger, closing *closers, options ...eventlog.Option) (*log, error) {
	client, url, err := s.dialLog(ctx, logger, closing, options...)
	if err != nil {
		return nil, err
	}
	registry, err := codec.New(aggregates.All()...)
	if err != nil {
		return nil, err
	}
	if err := client.Await(ctx, startPatience, waitingOn(ctx, logger)); err != nil {
		return nil, err
	}
	return &log{Log: client, URL: url, Registry: registry, Store: eventlog.NewStore(client, registry)}, nil
}

// dialLog prepares the connection to the event log that the flags choose: the one named, else that of a server running on
// the data directory, else the embedded node, started here. It returns the log's connection string, too.
func (s stores) dialLog(ctx context.Context, logger *slog.Logger, closing *closers, options ...eventlog.Option) (*eventlog.ESDB, string, error) {
	url := s.EventStore
	if url == "" {
		var err error
		if url, err = s.startNode(ctx, logger, closing); err != nil {
			return nil, "", err
		}
	}
	client, err := eventlog.Dial(ctx, url, append(options, eventlog.WithNamespace(s.Namespace))...)
	if err != nil {
		return nil, "", fmt.Errorf("connect to the event log: %w", err)
	}
	closing.add(client.Close)
	return client, url, nil
}

// waitingOn says on the log what a start waits for.
func waitingOn(ctx context.Context, logger *slog.Logger) func(*eventlog.ProbeError) {
	return func(p *eventlog.ProbeError) { logger.WarnContext(ctx, "waiting for the event log", "err", p) }
}

// reached refuses a position that the log has not reached, such as one of another log: what is written up to there would be
// left out or shown only later. flag is where it was given.
func (l *log) reached(ctx context.Context, flag string, p domain.Position) error {
	if p.IsZero() {
		return nil
	}
	head, err := l.Head(ctx)
	if err == nil && head.Position.Before(p) {
		err = &usageError{fmt.Sprintf("%s %s: the log ends at position %s", flag, p, head.Position)}
	}
	return err
}

// openNode opens the embedded event node. The tests of this package put the manner in its place that they were asked for.
var openNode = esnode.Open

// place finds the position of an event by its id, for a flag.
func (l *log) place(ctx context.Context, flag string, caller domain.Caller, event domain.ID) (domain.Position, error) {
	p, err := history.Place(ctx, l.Store, caller, event)
	var none *domain.NotFoundError
	if errors.As(err, &none) {
		err = &usageError{fmt.Sprintf("%s %s: the log holds no such event", flag, event)}
	}
	return p, err
}

func (s stores) startNode(ctx context.Context, logger *slog.Logger, closing *closers) (string, error) {
	if r, err := s.running(); err == nil {
		return r.EventStore, nil
	}
	if err := s.prepare(); err != nil {
		return "", err
	}
	node, err := openNode(ctx, esnode.Options{Dir: filepath.Join(s.Data, nodeDir), Logger: logger})
	if errors.Is(err, esnode.ErrLocked) {
		return "", fmt.Errorf("%w, and it is not a server that is ready: wait for it, or name its node by --eventstore", err)
	}
	if err != nil {
		return "", fmt.Errorf("open the embedded event node: %w", err)
	}
	closing.add(node.Close)
	return node.ConnectionString(), nil
}

// errNotRunning says that no server runs on the data directory.
var errNotRunning = errors.New("no server runs on the data directory")

// running reads where the server that uses the data directory listens. It returns errNotRunning when there is none, also
// when one has been killed: the lock on its file ended with it.
func (s stores) running() (running, error) {
	var r running
	file, err := os.Open(filepath.Join(s.Data, runFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, errNotRunning
	}
	if err != nil {
		return r, err
	}
	defer file.Close()
	if syscall.Flock(int(file.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == nil {
		return r, errNotRunning
	}
	return r, json.NewDecoder(file).Decode(&r)
}

// announce says where this server listens, for as long as it holds the file's lock; the returned function takes it back.
func (s stores) announce(r running) (func() error, error) {
	file, err := os.CreateTemp(s.Data, runFile+"-")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.Data, runFile)
	err = errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_EX), json.NewEncoder(file).Encode(r))
	if err == nil {
		err = os.Rename(file.Name(), path) // whoever sees the file sees it whole and locked
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(file.Name()), file.Close())
	}
	return func() error { return errors.Join(os.Remove(path), file.Close()) }, nil
}

// secretBytes is the length of the key of reservations.
const secretBytes = 32

// secret returns the installation's key: the one given, else that of the data directory, made at first use. For a log
// that lies elsewhere none is made, because everybody who writes to it must have the same.
func (s stores) secret(given string) ([]byte, error) {
	key, err := s.keptSecret(given)
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		return key, err
	case s.EventStore != "":
		return nil, fmt.Errorf("an event log given by --eventstore needs --secret (RAPPORT_SECRET), the same for all who write to it: %d hexadecimal digits, made once with openssl rand -hex %d", 2*secretBytes, secretBytes)
	}
	return s.makeSecret()
}

// keptSecret is secret for a log that was begun: no key is made. It returns an error that wraps fs.ErrNotExist where none is
// given and none is kept.
func (s stores) keptSecret(given string) ([]byte, error) {
	if given != "" {
		key, err := hex.DecodeString(given)
		if err != nil || len(key) != secretBytes {
			return nil, fmt.Errorf("--secret (RAPPORT_SECRET) is not %d hexadecimal digits; openssl rand -hex %d makes some", 2*secretBytes, secretBytes)
		}
		return key, nil
	}
	path := filepath.Join(s.Data, secretFile)
	key, err := os.ReadFile(path)
	if err == nil && len(key) < secretBytes {
		err = fmt.Errorf("%s holds %d bytes, not a key of %d", path, len(key), secretBytes)
	}
	return key, err
}

// makeSecret keeps a fresh key in the data directory, unless another process does so first.
func (s stores) makeSecret() ([]byte, error) {
	fresh := make([]byte, secretBytes)
	rand.Read(fresh)
	return s.keepSecret(fresh)
}

// keepSecret keeps a key in the data directory, unless one is there, and returns the one that is there then.
func (s stores) keepSecret(key []byte) ([]byte, error) {
	if err := s.prepare(); err != nil {
		return nil, err
	}
	path := filepath.Join(s.Data, secretFile)
	file, err := os.CreateTemp(s.Data, secretFile+"-")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(key)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return nil, err
	}
	// A link either makes the whole file or finds that another process was faster.
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.ReadFile(path)
}

// newBus makes the command bus over the log.
func newBus(l *log, secret []byte, o commands.Options) *commands.Bus {
	o.Secret = secret
	bus := commands.NewBus(l.Store, o)
	areas.Register(bus)
	return bus
}

// frozenTimeout is when the server ends a transaction of a process that has stopped within it, so that another can take over;
// it leaves time to evaluate a large batch.
const frozenTimeout = 2 * time.Minute

// workConnections are those of a pool beside the ones that hold locks: for batches, builds, heartbeats and questions.
const workConnections = 6

// openPool connects to the database, with room for a number of loops that each hold a connection for their lock, and brings
// its fixed tables up to date.
func openPool(ctx context.Context, postgres string, loops int, closing *closers) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(postgres)
	if err != nil {
		return nil, err
	}
	config.MaxConns = max(config.MaxConns, int32(loops+workConnections))
	config.ConnConfig.RuntimeParams["row_security"] = "off" // who is not the owner fails instead of seeing some rows
	config.ConnConfig.RuntimeParams["idle_in_transaction_session_timeout"] = fmt.Sprint(frozenTimeout.Milliseconds())
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	closing.add(func() error { pool.Close(); return nil })
	return pool, migrations.Apply(ctx, pool)
}

// newRunner makes the engine of the projections on the database, without running it.
func newRunner(ctx context.Context, postgres string, l *log, o runner.Options, closing *closers) (*runner.Runner, error) {
	pool, err := openPool(ctx, postgres, 1, closing)
	if err != nil {
		return nil, err
	}
	return runner.New(pool, l.Log, l.Registry, projections.All(), o)
}
