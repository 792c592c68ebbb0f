package query

import (
	"errors"
	"strings"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

func TestCursorsAreBoundToTheirRequest(t *testing.T) {
	binding := []string{"customer", "main", "name, id", ""}
	value, tag := "Acme", logTag("this one")
	cursor, err := encodeCursor(tag, binding, []*string{&value, nil})
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeCursor(tag, binding, cursor, 2)
	if err != nil || *got[0] != value || got[1] != nil {
		t.Fatalf("%v %v", got, err)
	}
	var foreign *domain.InvalidError
	if _, err := decodeCursor(logTag("another"), binding, cursor, 2); !errors.As(err, &foreign) || !strings.Contains(foreign.Error(), "another event log") {
		t.Errorf("a cursor of another log: %v", err)
	}
	damaged := []byte(cursor)
	damaged[len(damaged)/2] ^= 1
	for name, try := range map[string]func() error{
		"other log": func() error { _, err := decodeCursor(logTag("another"), binding, cursor, 2); return err },
		"other tenant": func() error {
			_, err := decodeCursor(tag, []string{"customer", "x", "name, id", ""}, cursor, 2)
			return err
		},
		"other sort": func() error {
			_, err := decodeCursor(tag, []string{"customer", "main", "id", ""}, cursor, 2)
			return err
		},
		"other filter": func() error {
			_, err := decodeCursor(tag, []string{"customer", "main", "name, id", "a"}, cursor, 2)
			return err
		},
		"shifted": func() error {
			_, err := decodeCursor(tag, []string{"customer", "main", "name, id,", ""}, cursor, 2)
			return err
		},
		"other length":  func() error { _, err := decodeCursor(tag, binding, cursor, 1); return err },
		"damaged":       func() error { _, err := decodeCursor(tag, binding, string(damaged), 2); return err },
		"not base64":    func() error { _, err := decodeCursor(tag, binding, "%%%", 2); return err },
		"empty payload": func() error { _, err := decodeCursor(tag, binding, "AAAA", 2); return err },
		"huge":          func() error { _, err := decodeCursor(tag, binding, strings.Repeat("A", 100_000), 2); return err },
	} {
		var invalid *domain.InvalidError
		if err := try(); !errors.As(err, &invalid) || invalid.Code != "cursor-invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCursor holds that no text but one made for the request is taken, and none panics.
func FuzzCursor(f *testing.F) {
	binding := []string{"customer", "main", "name, id", ""}
	value, tag := "x", logTag("this one")
	known, err := encodeCursor(tag, binding, []*string{&value, nil})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(known)
	f.Add("")
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, cursor string) {
		values, err := decodeCursor(tag, binding, cursor, 2)
		var invalid *domain.InvalidError
		if err != nil {
			if !errors.As(err, &invalid) {
				t.Fatal(err)
			}
			return
		}
		if again, err := encodeCursor(tag, binding, values); err != nil || again != cursor {
			t.Fatalf("%q decodes and encodes to something else", cursor)
		}
	})
}

// TestACursorThatIsGivenIsTaken: what could not be taken back is refused when it would be given.
func TestACursorThatIsGivenIsTaken(t *testing.T) {
	binding, tag := []string{"commitment", "main", "note, customer_id, commitment_id", ""}, logTag("this one")
	for _, c := range []struct {
		value string
		fits  bool
	}{{strings.Repeat("😀", 2_000), true}, {strings.Repeat("x", 65_536), false}} {
		cursor, err := encodeCursor(tag, binding, []*string{&c.value, nil})
		var invalid *domain.InvalidError
		if !c.fits {
			if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != "sort" {
				t.Errorf("%d bytes: %v", len(c.value), err)
			}
			continue
		}
		if got, again := decodeCursor(tag, binding, cursor, 2); err != nil || again != nil || *got[0] != c.value {
			t.Errorf("%d bytes: %v, %v", len(c.value), err, again)
		}
	}
}
