package esnode

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ErrLocked says that another process, or another Node of this one, has the directory open.
var ErrLocked = errors.New("the event log directory is in use by another node")

var (
	// errClosed answers requests that arrive while the node stops.
	errClosed = errors.New("the node is shutting down")
	// errDiskFull answers writes while the disk is nearly full.
	errDiskFull = errors.New("the disk of the event log is nearly full")
	// errFailed answers requests after a failed sync: their outcome is not known.
	errFailed = errors.New("the node has stopped after a failed write")
	// errBusy answers batches when too much is open.
	errBusy = errors.New("the node holds too many unfinished batches")
)

// wrongVersionError says that a stream was not at the revision the request expected.
type wrongVersionError struct {
	stream           string
	expected, actual int64
}

func (e *wrongVersionError) Error() string {
	return fmt.Sprintf("stream %q: expected version %d, actual version %d", e.stream, e.expected, e.actual)
}

// streamDeletedError says that a stream was tombstoned, or soft-deleted where the
// request required it to exist.
type streamDeletedError struct{ stream string }

func (e *streamDeletedError) Error() string {
	return fmt.Sprintf("event stream '%s' is deleted", e.stream)
}

// The protocol's names of refusals.
const (
	exceptionAccessDenied = "access-denied"
	exceptionTooLarge     = "maximum-append-size-exceeded"
)

// requestError is a request the node refuses whatever its state.
type requestError struct {
	code      codes.Code
	message   string
	exception string // the protocol's name, for the trailer; may be empty
	trailer   []string
	limit     int // bytes, of exceptionTooLarge
}

func (e *requestError) Error() string { return e.message }

func invalid(format string, args ...any) error {
	return &requestError{code: codes.InvalidArgument, message: fmt.Sprintf(format, args...)}
}

func accessDenied(stream string) error {
	return &requestError{
		code: codes.PermissionDenied, message: fmt.Sprintf("stream %q cannot be written", stream),
		exception: exceptionAccessDenied,
	}
}

func appendTooLarge(limit int) error {
	return tooLarge(limit, fmt.Sprintf("Maximum Append Size of %d Exceeded.", limit))
}

// tooLarge refuses an append for its size, the one reason of this kind that clients know.
func tooLarge(limit int, message string) error {
	return &requestError{
		code: codes.InvalidArgument, message: message, exception: exceptionTooLarge, limit: limit,
		trailer: []string{"maximum-append-size", strconv.Itoa(limit)},
	}
}

func missingMetadata(property string) error {
	return &requestError{
		code: codes.InvalidArgument, message: fmt.Sprintf("Required Metadata Property '%s' is missing", property),
		exception: "missing-required-metadata-property",
		trailer:   []string{"required-metadata-properties", "type,content-type"},
	}
}

// statusOf turns an error of the store into what goes over the wire: the status and
// the trailers clients act on.
func statusOf(err error) (metadata.MD, error) {
	var (
		wrong   *wrongVersionError
		deleted *streamDeletedError
		request *requestError
		busy    *refusedNow
	)
	switch {
	case errors.As(err, &wrong): // of a delete: to an append it is an answer
		return metadata.Pairs(
				"exception", "wrong-expected-version",
				"stream-name", trailerText(wrong.stream),
				"expected-version", strconv.FormatInt(wrong.expected, 10),
				"actual-version", strconv.FormatInt(wrong.actual, 10),
			), status.Errorf(codes.FailedPrecondition, "Delete failed due to WrongExpectedVersion. Stream: %s, Expected version: %d, Actual version: %d",
				wrong.stream, wrong.expected, wrong.actual)
	case errors.As(err, &deleted):
		return metadata.Pairs(
			"exception", "stream-deleted",
			"stream-name", trailerText(deleted.stream), // the Go client indexes it unguarded
		), status.Errorf(codes.FailedPrecondition, "Event stream '%s' is deleted.", deleted.stream)
	case errors.As(err, &busy):
		return nil, status.Error(codes.Unavailable, busy.message)
	case errors.Is(err, timedOut{}):
		return nil, status.Error(codes.Aborted, err.Error())
	case errors.As(err, &request):
		trailer := metadata.Pairs(request.trailer...)
		if request.exception != "" {
			trailer.Set("exception", request.exception)
		}
		return trailer, status.Error(request.code, request.message)
	case errors.Is(err, errClosed), errors.Is(err, errFailed):
		return nil, status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, errDiskFull):
		return nil, status.Error(codes.Aborted, err.Error()) // on UNAVAILABLE clients would connect anew each time
	case errors.Is(err, errCorrupt):
		return nil, status.Error(codes.DataLoss, err.Error())
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return nil, status.FromContextError(err).Err()
	}
	if _, ok := status.FromError(err); ok {
		return nil, err
	}
	return nil, status.Error(codes.Internal, err.Error())
}

// trailerText makes a stream name fit for a trailer, which carries printable ASCII
// only; other names are percent-encoded.
func trailerText(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return url.PathEscape(s)
		}
	}
	return s
}

func unaryErrors(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil {
		return resp, nil
	}
	trailer, err := statusOf(err)
	if terr := grpc.SetTrailer(ctx, trailer); terr != nil {
		return nil, terr
	}
	return nil, err
}

func streamErrors(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	err := handler(srv, stream)
	if err == nil {
		return nil
	}
	trailer, err := statusOf(err)
	stream.SetTrailer(trailer)
	return err
}
