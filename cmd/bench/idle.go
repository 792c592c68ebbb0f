package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// idleSettle is how long a server is left alone before it counts as idle: sessions of PostgreSQL may add to its figures ten
// seconds late.
const idleSettle = 15 * time.Second

// activity is what PostgreSQL has counted.
type activity struct {
	transactions, rows, blocks, walBytes int64
}

// activityOf reads the counters, of everything but the connection that asks.
func activityOf(ctx context.Context, conn *pgx.Conn) (a activity, err error) {
	const sql = `select sum(xact_commit + xact_rollback)::bigint, sum(tup_returned)::bigint, sum(blks_hit + blks_read)::bigint,
	(pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint from pg_stat_database`
	err = conn.QueryRow(ctx, sql).Scan(&a.transactions, &a.rows, &a.blocks, &a.walBytes)
	return a, err
}

// idle tells what a server costs that nobody asks for anything.
func (b *bench) idle(ctx context.Context) (err error) {
	s := (*server)(nil)
	where := "a server over a generated log"
	if b.past != nil {
		s = b.past.server
	} else {
		where = "a server over an empty log"
		if s, err = b.serve(ctx, "idle"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.stop()) }()
	}
	if _, err := s.settled(ctx); err != nil {
		return err
	}
	conn, err := s.database(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := pause(ctx, idleSettle); err != nil {
		return err
	}
	before, err := activityOf(ctx, conn)
	if err != nil {
		return err
	}
	cpu, start := s.usage(), time.Now()
	if err := pause(ctx, b.idleTime); err != nil {
		return err
	}
	cpu, took := s.usage().minus(cpu), time.Since(start)
	after, err := activityOf(ctx, conn)
	if err != nil {
		return err
	}
	each := func(n int64) string { return fmt.Sprintf("%.1f", float64(n)/took.Seconds()) }
	t := table{head: []string{"an idle server", "per second"}}
	t.add("CPU time of the server, its event node included", millis(time.Duration(float64(cpu.server)/took.Seconds())))
	t.add("CPU time of PostgreSQL", millis(time.Duration(float64(cpu.postgres)/took.Seconds())))
	t.add("transactions of PostgreSQL, most of one query", each(after.transactions-before.transactions-1)) // but for reading the counters
	t.add("rows that it looked at", each(after.rows-before.rows))
	t.add("bytes of its log", each(after.walBytes-before.walBytes))
	t.print(b.out)
	fmt.Fprintf(b.out, "\nFor %s, of %s, to which this program is connected and says nothing.\n", b.idleTime, where)
	return nil
}

// pause waits for a time.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
