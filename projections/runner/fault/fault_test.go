package fault_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/projections/runner/fault"
)

// P5: which errors of PostgreSQL pass, and which say something about an event or a table.
func TestErrorsOfTheDatabaseAreClassified(t *testing.T) {
	t.Parallel()
	server := func(code string) error { return fmt.Errorf("store: %w", &pgconn.PgError{Code: code}) }
	for _, test := range []struct {
		err   error
		kind  fault.Verdict
		class string
	}{
		{server("57014"), fault.Transient, "timeout"},       // statement timeout, cancelled by an operator
		{server("25P03"), fault.Transient, "database"},      // idle in a transaction for too long
		{server("40P01"), fault.Transient, "serialization"}, // deadlock
		{server("40001"), fault.Transient, "serialization"},
		{server("53100"), fault.Transient, "resources"}, // disk full
		{server("53200"), fault.Transient, "resources"}, // out of memory
		{server("53300"), fault.Transient, "resources"}, // too many connections
		{server("55P03"), fault.Transient, "lock"},
		{server("57P01"), fault.Transient, "connection"}, // the server is stopped
		{server("57P03"), fault.Transient, "connection"}, // it starts
		{server("08006"), fault.Transient, "connection"},
		{server("42501"), fault.Transient, "privilege"},
		{server("58030"), fault.Transient, "database"}, // input or output fails
		{server("XX000"), fault.Transient, "database"},
		{server("25006"), fault.Transient, "database"}, // a standby
		{server("22021"), fault.Poison, "data"},        // a byte that no text holds
		{server("22003"), fault.Poison, "data"},        // out of range
		{server("23505"), fault.Poison, "data"},
		{&pgconn.PgError{Code: "23505", SchemaName: "projection", ConstraintName: "note_v1_pkey"}, fault.Poison, "data"},
		{&pgconn.PgError{Code: "23505", SchemaName: "pg_catalog", ConstraintName: "pg_class_relname_nsp_index"}, fault.Transient, "lock"},
		{server("23514"), fault.Poison, "data"},
		{server("54000"), fault.Poison, "data"}, // too large for an index
		{server("42P01"), fault.Drift, "definition"},
		{server("42703"), fault.Drift, "definition"},
		{context.DeadlineExceeded, fault.Transient, "timeout"},
		{&net.OpError{Op: "read", Err: io.EOF}, fault.Transient, "connection"},
		{io.ErrUnexpectedEOF, fault.Transient, "connection"},
		{&pgconn.ConnectError{}, fault.Transient, "connection"},
		{&domain.UnavailableError{What: "event log"}, fault.Transient, "log"},
		{fault.ErrStale, fault.Transient, "checkpoint"},
		{errors.New("anything"), fault.Transient, "other"},
	} {
		if kind, class := fault.Classify(test.err); kind != test.kind || class != test.class {
			t.Errorf("%v is %d, %s; want %d, %s", test.err, kind, class, test.kind, test.class)
		}
	}
}

// A caller hears that a database that does not do something now may do so later.
func TestRequestsOfABusyDatabaseMaySucceedLater(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01", "53300", "55P03", "57014", "57P01"} {
		if err := fault.Unavailable(t.Context(), fmt.Errorf("asked: %w", &pgconn.PgError{Code: code})); !errors.As(err, new(*domain.UnavailableError)) {
			t.Errorf("%s: %v", code, err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	for ctx, err := range map[context.Context]error{gone: context.Canceled, t.Context(): domain.Reject("projection-not-ready", "no")} {
		if got := fault.Unavailable(ctx, err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
