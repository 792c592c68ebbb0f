// Package migrations makes the fixed tables of the read models.
package migrations

import (
	"context"
	"embed"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/tern/v2/migrate"
)

//go:embed *.sql
var files embed.FS

// migrationLock is the advisory lock that makes concurrent Apply calls wait for each other; the number is arbitrary.
const migrationLock = 0x7261_7070_6f72_7401

// Apply brings the fixed tables of the read models up to date: checkpoints, parked events and the schemas. The tables of
// the projections are made by the projectors. Any number of processes may call it at the same time.
func Apply(ctx context.Context, pool *pgxpool.Pool) error {
	err := pool.AcquireFunc(ctx, func(c *pgxpool.Conn) (err error) {
		conn := c.Conn()
		if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", int64(migrationLock)); err != nil {
			return err
		}
		defer func() {
			if _, unlock := conn.Exec(context.WithoutCancel(ctx), "select pg_advisory_unlock($1)", int64(migrationLock)); err == nil {
				err = unlock
			}
		}()
		// The table of migrations done stands in a schema that the first migration would make too late.
		if _, err := conn.Exec(ctx, "create schema if not exists projection"); err != nil {
			return err
		}
		m, err := migrate.NewMigrator(ctx, conn, "projection.migration")
		if err != nil {
			return err
		}
		if err := m.LoadMigrations(files); err != nil {
			return err
		}
		return m.Migrate(ctx)
	})
	if err != nil {
		return fmt.Errorf("migrate read models: %w", err)
	}
	return nil
}
