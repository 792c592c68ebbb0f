package query

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// A cursor begins with a digest and the tag of the log that its rows come from.
const (
	cursorSum = 12 // bytes of the digest
	cursorTag = 4  // bytes of the tag
)

// maxCursorLength bounds what is encoded and decoded: it must fit into the address of the next page, and holds a text of 2,000
// characters, the longest that lists are sorted by, beside others of usual length.
const maxCursorLength = 16_000

// errCursor answers a cursor that is damaged or belongs to another list, tenant, sort or filter.
func errCursor() error {
	return &domain.InvalidError{Code: "cursor-invalid", Fields: []domain.FieldError{
		domain.Fault("cursor", "damaged, or made by a request with another list, sort or filter"),
	}}
}

// errOtherLog answers a cursor whose rows come from another log: a list that goes on behind one of them would mix two
// histories.
func errOtherLog() error {
	return &domain.InvalidError{Code: "cursor-invalid", Fields: []domain.FieldError{
		domain.Fault("cursor", "made from another event log than the one that is served now: begin with the first page"),
	}}
}

// logTag is the tag that cursors carry of the log with an identity.
func logTag(identity string) [cursorTag]byte {
	digest := sha256.Sum256([]byte("log " + identity))
	return [cursorTag]byte(digest[:])
}

// encodeCursor writes the sort values of the last row of a page, nil for null, bound to what the page was asked for, with the
// tag of the log. Values that are too long to go on behind are an *InvalidError.
func encodeCursor(tag [cursorTag]byte, binding []string, values []*string) (string, error) {
	payload, err := json.Marshal(values)
	if err != nil {
		panic(fmt.Sprintf("readmodels: texts do not encode: %v", err)) // cannot happen: strings always do
	}
	payload = append(tag[:], payload...)
	cursor := base64.RawURLEncoding.EncodeToString(append(cursorDigest(binding, payload), payload...))
	if len(cursor) > maxCursorLength {
		return "", domain.Invalid("sort", "the values are too long to page by: sort by fewer or other fields")
	}
	return cursor, nil
}

// decodeCursor reads what encodeCursor wrote for the same log and binding, n values, or returns an *InvalidError.
func decodeCursor(tag [cursorTag]byte, binding []string, cursor string, n int) ([]*string, error) {
	sum, payload, err := openCursor(tag, cursor)
	if err != nil {
		return nil, err
	}
	var values []*string
	if subtle.ConstantTimeCompare(sum, cursorDigest(binding, payload)) != 1 ||
		json.Unmarshal(payload[cursorTag:], &values) != nil || len(values) != n {
		return nil, errCursor()
	}
	return values, nil
}

// openCursor takes a cursor of the log apart: its digest, and what that is made of, the tag first.
func openCursor(tag [cursorTag]byte, cursor string) (sum, payload []byte, err error) {
	if len(cursor) > maxCursorLength {
		return nil, nil, errCursor()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < cursorSum+cursorTag {
		return nil, nil, errCursor()
	}
	if sum, payload = raw[:cursorSum], raw[cursorSum:]; [cursorTag]byte(payload) != tag {
		return nil, nil, errOtherLog()
	}
	return sum, payload, nil
}

func cursorDigest(binding []string, payload []byte) []byte {
	bound, err := json.Marshal(binding)
	if err != nil {
		panic(fmt.Sprintf("readmodels: texts do not encode: %v", err)) // cannot happen: strings always do
	}
	digest := sha256.Sum256(append(append(bound, 0), payload...))
	return digest[:cursorSum]
}
