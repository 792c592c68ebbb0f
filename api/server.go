package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humaecho"
	"github.com/labstack/echo/v4"
	"golang.org/x/net/netutil"

	"github.com/rapport-crm/rapport/api/resource"
)

// Server answers HTTP requests. It is an http.Handler for tests and embedding; Serve runs it on a listener with every
// limit in place. It is safe for concurrent use.
type Server struct {
	opts    Options
	echo    *echo.Echo
	api     huma.API
	logger  *slog.Logger
	metrics *requestMetrics

	commandSlots slots                        // one per command in execution
	streamSlots  slots                        // one per live feed
	heavySlots   slots                        // one per query that is heavy
	specs        map[string]commandRoute      // by command type
	readModels   []resource.ReadModelMetadata // in the order of their routes
	eventTypes   []string                     // that the log can hold

	draining atomic.Bool
	probing  sync.WaitGroup // checks of readiness that are under way
	stopOnce sync.Once
	stopping chan struct{}    // closed when the server begins to stop: live feeds end
	limits   map[string]int64 // of bodies, by route, where it is not Options.MaxBodyBytes
}

// New builds the routes. The error names a declaration that contradicts itself.
func New(o Options) (*Server, error) {
	if o.Bus == nil && !o.HealthOnly || o.Reads == nil || o.Log == nil {
		return nil, errors.New("api: Bus, Reads and Log are required")
	}
	o = o.withDefaults()
	configureHuma()
	s := &Server{
		opts:         o,
		echo:         echo.New(),
		logger:       o.Logger,
		commandSlots: make(slots, o.MaxConcurrentCommands),
		streamSlots:  make(slots, MaxStreams),
		heavySlots:   make(slots, o.MaxHeavyReads),
		specs:        map[string]commandRoute{},
		stopping:     make(chan struct{}),
		limits:       map[string]int64{},
	}
	var err error
	if s.metrics, err = newRequestMetrics(o.Metrics); err != nil {
		return nil, fmt.Errorf("api: %w", err)
	}
	s.echo.HideBanner, s.echo.HidePort = true, true
	s.echo.HTTPErrorHandler = s.fail
	// The API does not stand behind a proxy that it knows: the peer's address is the client's.
	s.echo.IPExtractor = echo.ExtractIPDirect()
	s.echo.Use(s.observe)
	s.api = humaecho.New(s.echo, s.config())

	routes := []func() error{
		s.commandRoutes, s.batchRoute, s.queryRoutes, s.replayRoutes, s.feedRoutes, s.metadataRoute, s.adminRoutes, s.healthRoutes, s.documentRoutes,
	}
	if o.HealthOnly {
		routes = []func() error{s.healthRoutes}
	}
	for _, register := range routes {
		if err := register(); err != nil {
			return nil, fmt.Errorf("api: %w", err)
		}
	}
	s.headRoutes()
	return s, nil
}

// headRoutes answers HEAD wherever GET is, by the same handlers: net/http leaves the body out (RFC 9110, section 9.3.2). It
// comes last. As routes they are among the methods that Allow names.
func (s *Server) headRoutes() {
	for _, r := range s.echo.Routes() {
		if r.Method == http.MethodGet {
			c := s.echo.NewContext(nil, nil)
			s.echo.Router().Find(r.Method, r.Path, c)
			s.echo.HEAD(r.Path, c.Handler())
		}
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.echo.ServeHTTP(w, r) }

// Serve answers on the listener until ctx ends, then stops gracefully: not ready, no new connections, live feeds end,
// requests in flight finish within StopTimeout. It closes the listener and returns nil after a clean stop.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: ReadHeaderTimeout,
		ReadTimeout:       ReadTimeout,
		WriteTimeout:      WriteTimeout,
		IdleTimeout:       IdleTimeout,
		MaxHeaderBytes:    MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(netutil.LimitListener(l, s.opts.MaxConnections)) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.stopOnce.Do(func() { close(s.stopping) })
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), StopTimeout)
	defer cancel()
	err := server.Shutdown(stopping)
	if err != nil {
		err = fmt.Errorf("requests were cut off after %s: %w", StopTimeout, errors.Join(err, server.Close()))
	}
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	s.probing.Wait()
	return err
}

// CheckListen refuses an address that others than this machine can reach, unless insecure says that this is wanted: there
// is no authentication yet.
func CheckListen(address string, insecure bool) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("listen address: %w", err)
	}
	if ip := net.ParseIP(host); insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("listen address %s can be reached from other machines, and there is no authentication yet: use 127.0.0.1, or say --insecure", address)
}
