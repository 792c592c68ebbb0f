// Package fault says what errors mean for projections: whether the same may succeed later, whether an event or a table is at
// fault, and what ends the work.
package fault

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rapport-crm/rapport/domain"
)

// What ends the work of a process, or of a lane, without being anybody's fault.
var (
	ErrFenced  = errors.New("another process has taken over the projections")
	ErrRegroup = errors.New("the projections are to be read anew")
	ErrStale   = errors.New("the checkpoint is not where it was left")
)

// Verdict says what an error of the database means for the batch that met it.
type Verdict int

const (
	Transient Verdict = iota // the same may succeed later
	Poison                   // an event's rows cannot be stored
	Drift                    // the table is not the one declared
)

// Classify judges an error and names its class for metrics. Whatever is not known to be lasting is transient: to wait is
// safer than to park.
func Classify(err error) (Verdict, string) {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.SchemaName == "pg_catalog" { // the same table or index is being made, perhaps by a statement of ours that was given up
			return Transient, "lock"
		}
		switch pg.Code[:2] {
		case "21", "22", "23", "44", "54": // cardinality, data, constraints, check options, limits such as an index row's size
			return Poison, "data"
		case "42": // no such table or column, another type
			if pg.Code == "42501" {
				return Transient, "privilege"
			}
			return Drift, "definition"
		case "08":
			return Transient, "connection"
		case "40":
			return Transient, "serialization"
		case "53":
			return Transient, "resources"
		case "55":
			return Transient, "lock"
		case "57":
			if pg.Code == "57014" {
				return Transient, "timeout"
			}
			return Transient, "connection"
		}
		return Transient, "database"
	}
	var network net.Error
	var connect *pgconn.ConnectError
	var unavailable *domain.UnavailableError
	switch {
	case errors.As(err, &unavailable):
		return Transient, "log"
	case errors.Is(err, ErrStale):
		return Transient, "checkpoint"
	case errors.Is(err, context.DeadlineExceeded):
		return Transient, "timeout"
	case errors.As(err, &connect), errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, net.ErrClosed), pgconn.SafeToRetry(err):
		return Transient, "connection"
	}
	return Transient, "other"
}

// Unavailable tells whoever asked for something that the database cannot do it now, where the same may succeed later. Other
// errors stay as they are, also when the caller has gone away.
func Unavailable(ctx context.Context, err error) error {
	if err == nil || errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	switch _, class := Classify(err); class {
	case "connection", "timeout", "serialization", "lock", "resources":
		return &domain.UnavailableError{What: "read models", Err: err}
	}
	return err
}
