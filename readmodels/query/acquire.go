package query

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// AcquireTimeout is how long a query waits for a connection while all are taken: then the database is too slow for what is
// asked of it, and whoever asks is better told so than kept in a line that grows.
const AcquireTimeout = 2 * time.Second

// acquireTimeout bounds the waits for a connection. The pool has no setting for that; a tracer may give it another context.
type acquireTimeout struct{}

type acquireCancel struct{}

// TraceAcquireStart implements pgxpool.AcquireTracer.
func (acquireTimeout) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	ctx, cancel := context.WithTimeout(ctx, AcquireTimeout)
	return context.WithValue(ctx, acquireCancel{}, cancel)
}

// TraceAcquireEnd implements pgxpool.AcquireTracer.
func (acquireTimeout) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	ctx.Value(acquireCancel{}).(context.CancelFunc)()
}

// TraceQueryStart implements pgx.QueryTracer, which every tracer of a connection must.
func (acquireTimeout) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd implements pgx.QueryTracer.
func (acquireTimeout) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
