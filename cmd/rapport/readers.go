package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rapport-crm/rapport/readmodels/reader"
)

type readersCommand struct {
	Grant  readersGrant  `cmd:"" help:"Let a login of the database read the views of some tenants, and of no others."`
	Revoke readersRevoke `cmd:"" help:"Take from a login what was granted to it."`
	List   readersList   `cmd:"" help:"Print which login reads which tenants."`
}

// Help shows an example.
func (readersCommand) Help() string {
	return "Example: rapport readers grant ann --tenant shop --data data"
}

// database runs f with connections to the database, whose fixed tables are up to date.
func (s stores) database(ctx context.Context, c *console, f func(*pgxpool.Pool) error) (err error) {
	var closing closers
	defer func() { err = errors.Join(err, closing.Close()) }()
	postgres, err := s.openPostgres(ctx, c.log, &closing)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, postgres.URL, 1, &closing)
	if err != nil {
		return err
	}
	return f(pool)
}

type readersGrant struct {
	stores
	Login   string       `arg:"" help:"Login of the database, which its administrator has made."`
	Tenants []tenantName `name:"tenant" help:"Company whose records it reads; may be repeated. What was granted before is replaced." required:"" placeholder:"NAME"`
}

// Help shows an example.
func (readersGrant) Help() string {
	return "Example: rapport readers grant ann --tenant shop --data data"
}

// Validate refuses what no tenant is called.
func (g readersGrant) Validate() error {
	for _, name := range g.Tenants {
		if err := name.Validate(); err != nil {
			return fmt.Errorf("--tenant: %w", err)
		}
	}
	return nil
}

// Run grants, in one transaction.
func (g readersGrant) Run(ctx context.Context, c *console) error {
	names := make([]string, len(g.Tenants))
	for i, name := range g.Tenants {
		names[i] = string(name)
	}
	return g.database(ctx, c, func(pool *pgxpool.Pool) error {
		if err := reader.Grant(ctx, pool, g.Login, tenantsOf(g.Tenants), operator()); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.out, "%s reads %s\n", g.Login, strings.Join(names, ", "))
		return err
	})
}

type readersRevoke struct {
	stores
	Login string `arg:"" help:"Login of the database."`
}

// Help shows an example.
func (readersRevoke) Help() string { return "Example: rapport readers revoke ann --data data" }

// Run revokes, in one transaction.
func (r readersRevoke) Run(ctx context.Context, c *console) error {
	return r.database(ctx, c, func(pool *pgxpool.Pool) error {
		if err := reader.Revoke(ctx, pool, r.Login); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.out, "%s reads nothing any more\n", r.Login)
		return err
	})
}

type readersList struct {
	stores
	JSON bool `name:"json" help:"Print as JSON."`
}

// Help shows an example.
func (readersList) Help() string { return "Example: rapport readers list --data data" }

// Run prints one line for each login.
func (l readersList) Run(ctx context.Context, c *console) error {
	return l.database(ctx, c, func(pool *pgxpool.Pool) error {
		readers, err := reader.List(ctx, pool)
		if err != nil {
			return err
		}
		if l.JSON {
			return json.NewEncoder(c.out).Encode(readers)
		}
		w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "login\ttenants")
		for _, r := range readers {
			fmt.Fprintf(w, "%s\t%s\n", r.Login, strings.Join(r.Tenants, ", "))
		}
		return w.Flush()
	})
}
