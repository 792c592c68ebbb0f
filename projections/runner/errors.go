package runner

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rapport-crm/rapport/domain"
)

// ErrFrozen says that the log delivers nothing to the projections although it has grown. The runner subscribes anew and
// goes on saying so until events arrive.
var ErrFrozen = errors.New("the projections stand still although the log has moved on")

var (
	errFenced  = errors.New("another process has taken over the projections")
	errRegroup = errors.New("the projections are to be read anew")
	errStale   = errors.New("the checkpoint is not where it was left")
)

// verdict says what an error of the database means for the batch that met it.
type verdict int

const (
	transient verdict = iota // the same may succeed later
	poison                   // an event's rows cannot be stored
	drift                    // the table is not the one declared
)

// classify judges an error and names its class for metrics. Whatever is not known to be lasting is transient: to wait is
// safer than to park.
func classify(err error) (verdict, string) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.SchemaName == "pg_catalog" { // the same table or index is being made, perhaps by a statement of ours that was given up
			return transient, "lock"
		}
		switch pg.Code[:2] {
		case "21", "22", "23", "44", "54": // cardinality, data, constraints, check options, limits such as an index row's size
			return poison, "data"
		case "42": // no such table or column, another type
			if pg.Code == "42501" {
				return transient, "privilege"
			}
			return drift, "definition"
		case "08":
			return transient, "connection"
		case "40":
			return transient, "serialization"
		case "53":
			return transient, "resources"
		case "55":
			return transient, "lock"
		case "57":
			if pg.Code == "57014" {
				return transient, "timeout"
			}
			return transient, "connection"
		}
		return transient, "database"
	}
	var network net.Error
	var connect *pgconn.ConnectError
	var unavailable *domain.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		return transient, "log"
	case errors.Is(err, errStale):
		return transient, "checkpoint"
	case errors.Is(err, context.DeadlineExceeded):
		return transient, "timeout"
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), pgconn.SafeToRetry(err):
		return transient, "connection"
	}
	return transient, "other"
}

// unavailable tells whoever asked for something that the database cannot do it now, where the same may succeed later. Other
// errors stay as they are, also when the caller has gone away.
func unavailable(ctx context.Context, err error) error {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	switch _, class := classify(err); class {
	case "connection", "timeout", "serialization", "lock", "resources":
		return &domain.UnavailableError{What: "read models", Err: err}
	}
	return err
}
