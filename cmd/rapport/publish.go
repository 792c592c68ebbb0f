package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/internal/bus"
	"github.com/rapport-crm/rapport/internal/follow"
	"github.com/rapport-crm/rapport/internal/reactor"
)

// destination is what one --publish says.
type destination struct {
	name    string // of the reactor
	types   []string
	tenants []domain.Tenant
	broker  *bus.Broker
}

// openDestinations reads the addresses. Two may not have the same name: they would share a checkpoint. A destination that names no
// tenants takes the events of those that are served.
func openDestinations(addresses []string, served []domain.Tenant, logger *slog.Logger) ([]destination, error) {
	var list []destination
	names := map[string]bool{}
	for _, address := range addresses {
		u, err := url.Parse(address)
		if err != nil {
			return nil, errors.New("--publish (RAPPORT_PUBLISH) is not a URL")
		}
		q, err := url.ParseQuery(u.RawQuery)
		if err != nil || len(q["name"]) > 1 || len(q["types"]) > 1 || len(q["tenants"]) > 1 {
			return nil, errors.New("--publish (RAPPORT_PUBLISH): the parameters of the URL are of the form name=a&types=b.,c.&tenants=d,e, each once")
		}
		d := destination{name: q.Get("name"), tenants: served}
		if types := q.Get("types"); types != "" {
			d.types = strings.Split(types, ",")
			if err := checkTypes(d.types); err != nil {
				return nil, err
			}
		}
		if q.Has("tenants") {
			if d.tenants, err = chosen(q.Get("tenants"), served); err != nil {
				return nil, err
			}
		}
		q.Del("tenants")
		q.Del("name")
		q.Del("types")
		u.RawQuery = q.Encode()
		if d.broker, err = bus.NewBroker(u.String(), logger); err != nil {
			return nil, fmt.Errorf("--publish: %w", err)
		}
		if d.name == "" {
			d.name = d.broker.Kind()
		}
		if names[d.name] {
			return nil, fmt.Errorf("--publish: two destinations have the name %s; add name=… to the address of one", d.name)
		}
		names[d.name] = true
		list = append(list, d)
	}
	return list, nil
}

// chosen reads the tenants of a destination, which are among those that are served: what a misspelt one publishes, nobody would
// miss.
func chosen(list string, served []domain.Tenant) ([]domain.Tenant, error) {
	var tenants []domain.Tenant
	for name := range strings.SplitSeq(list, ",") {
		if !slices.Contains(served, domain.Tenant(name)) {
			return nil, fmt.Errorf("--publish: tenants=%s: %q is not one of the tenants that are served (--tenant)", list, name)
		}
		tenants = append(tenants, domain.Tenant(name))
	}
	return tenants, nil
}

// checkTypes refuses what no event has: a reactor with it would publish nothing, and nobody would notice.
func checkTypes(types []string) error {
	for _, t := range types {
		some := func(e domain.EventSpec) bool { return reactor.Chooses(t, e.Type()) }
		if !slices.ContainsFunc(aggregates.All(), func(d domain.Definition) bool { return slices.ContainsFunc(d.Events, some) }) {
			return fmt.Errorf("--publish: types=%s: no event is of that type or begins so; customer. with its dot stands for all of customers", t)
		}
	}
	return nil
}

// newReactors makes a reactor for each destination.
func newReactors(list []destination, pool *pgxpool.Pool, l *log, logger *slog.Logger, metrics prometheus.Registerer, tracer trace.Tracer, closing *closers) ([]*follow.Follower, error) {
	var reactors []*follow.Follower
	for _, d := range list {
		r, err := reactor.New(pool, l.Log, l.Registry, reactor.Options{
			Name: d.name, To: d.broker, Tenants: d.tenants, Types: d.types, Bus: bus.Options{Tracer: tracer}, Logger: logger, Registerer: metrics,
		})
		if err != nil {
			return nil, fmt.Errorf("--publish: %w", err)
		}
		closing.add(d.broker.Close)
		reactors = append(reactors, r)
	}
	return reactors, nil
}
