package readmodels

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// cursorSum is the number of bytes of the digest at the head of a cursor.
const cursorSum = 12

// maxCursorLength bounds what is encoded and decoded: it must fit into the address of the next page, and holds a text of 2,000
// characters, the longest that lists are sorted by, beside others of usual length.
const maxCursorLength = 16_000

// errCursor answers a cursor that is damaged or belongs to another list, tenant, sort or filter.
func errCursor() error {
	return &domain.InvalidError{Code: "cursor-invalid", Fields: []domain.FieldError{{
		Pointer: "cursor", Message: "damaged, or made by a request with another list, sort or filter",
	}}}
}

// encodeCursor writes the sort values of the last row of a page, nil for null, bound to what the page was asked for. Values
// that are too long to go on behind are an *InvalidError.
func encodeCursor(binding []string, values []*string) (string, error) {
	payload, err := json.Marshal(values)
	if err != nil {
		panic(fmt.Sprintf("readmodels: texts do not encode: %v", err)) // cannot happen: strings always do
	}
	cursor := base64.RawURLEncoding.EncodeToString(append(cursorDigest(binding, payload), payload...))
	if len(cursor) > maxCursorLength {
		return "", domain.Invalid("sort", "the values are too long to page by: sort by fewer or other fields")
	}
	return cursor, nil
}

// decodeCursor reads what encodeCursor wrote for the same binding, n values, or returns an *InvalidError.
func decodeCursor(binding []string, cursor string, n int) ([]*string, error) {
	if len(cursor) > maxCursorLength {
		return nil, errCursor()
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < cursorSum {
		return nil, errCursor()
	}
	sum, payload := raw[:cursorSum], raw[cursorSum:]
	var values []*string
	if subtle.ConstantTimeCompare(sum, cursorDigest(binding, payload)) != 1 ||
		json.Unmarshal(payload, &values) != nil || len(values) != n {
		return nil, errCursor()
	}
	return values, nil
}

func cursorDigest(binding []string, payload []byte) []byte {
	bound, err := json.Marshal(binding)
	if err != nil {
		panic(fmt.Sprintf("readmodels: texts do not encode: %v", err)) // cannot happen: strings always do
	}
	digest := sha256.Sum256(append(append(bound, 0), payload...))
	return digest[:cursorSum]
}
