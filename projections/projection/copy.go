package projection

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// The binary format of COPY, as PostgreSQL documents it: a header, each row as a count of fields that carry their length,
// and a trailer. Integers are big-endian.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00" // signature, flags, length of an extension
	copyTrailer = "\xff\xff"
	lengthSize  = 4
)

// copyRows appends rows in the format that Table.CopySQL reads. It fails for a value that has no plain binary form; the
// statement of UpsertSQL then judges the value.
func copyRows(b []byte, t *Table, rows []reflect.Value) ([]byte, error) {
	b = append(b, copyHeader...)
	for _, row := range rows {
		b = binary.BigEndian.AppendUint16(b, uint16(len(t.Columns)))
		for i := range t.Columns {
			c := &t.Columns[i]
			field := row.FieldByIndex(c.index)
			if c.Nullable {
				if field.IsNil() {
					b = append(b, "\xff\xff\xff\xff"...) // the length of a null
					continue
				}
				field = field.Elem()
			}
			start := len(b)
			b = append(b, make([]byte, lengthSize)...)
			var err error
			if b, err = c.appendBinary(b, field); err != nil {
				return b, fmt.Errorf("column %s: %w", c.Name, err)
			}
			binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-lengthSize))
		}
	}
	return append(b, copyTrailer...), nil
}

// appendBinary appends one value as PostgreSQL receives its type.
func (c *Column) appendBinary(b []byte, v reflect.Value) ([]byte, error) {
	switch c.form {
	case formText:
		switch c.Type {
		case "uuid":
			return appendUUID(b, v.String())
		case "date":
			return appendDate(b, v.String())
		}
		return append(b, v.String()...), nil
	case formAmount:
		return appendNumeric(b, v.Addr().Interface().(fmt.Stringer).String())
	case formJSON:
		text, err := json.Marshal(v.Addr().Interface(), json.Deterministic(true))
		const version = 1 // of the binary form of jsonb
		return append(append(b, version), text...), err
	case formInt:
		return binary.BigEndian.AppendUint64(b, uint64(v.Int())), nil
	case formUint:
		return binary.BigEndian.AppendUint64(b, v.Uint()), nil
	case formFloat:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v.Float())), nil
	case formBool:
		if v.Bool() {
			return append(b, 1), nil
		}
		return append(b, 0), nil
	}
	return binary.BigEndian.AppendUint64(b, uint64(v.Addr().Interface().(*time.Time).UnixMicro()-epoch.UnixMicro())), nil
}

// epoch is from where PostgreSQL counts days and microseconds.
var epoch = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

func appendUUID(b []byte, s string) ([]byte, error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return b, fmt.Errorf("%q is not a UUID", s)
	}
	var digits [32]byte
	copy(digits[copy(digits[:], s[:8]):], s[9:13])
	copy(digits[12:], s[14:18])
	copy(digits[16:], s[19:23])
	copy(digits[20:], s[24:])
	return hex.AppendDecode(b, digits[:])
}

func appendDate(b []byte, s string) ([]byte, error) {
	day, err := time.Parse(time.DateOnly, s)
	const seconds = 24 * 60 * 60
	return binary.BigEndian.AppendUint32(b, uint32((day.Unix()-epoch.Unix())/seconds)), err
}

// appendNumeric appends a plain decimal number: a count of digits in base 10,000, the weight of the first, the sign, the
// count of decimals shown, and the digits.
func appendNumeric(b []byte, s string) ([]byte, error) {
	const (
		base     = 4 // decimal digits in one digit
		negative = 0x4000
	)
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(s, "-"), ".")
	if whole == "" || strings.Trim(whole+fraction, "0123456789") != "" || len(whole)+len(fraction) > math.MaxInt16 {
		return b, fmt.Errorf("%q is not a plain decimal number", s)
	}
	decimals := len(fraction)
	whole = strings.TrimLeft(whole, "0")
	whole = strings.Repeat("0", (base-len(whole)%base)%base) + whole
	fraction += strings.Repeat("0", (base-len(fraction)%base)%base)
	digits, weight := whole+fraction, len(whole)/base-1
	for strings.HasPrefix(digits, "0000") {
		digits = digits[base:]
		weight--
	}
	for strings.HasSuffix(digits, "0000") {
		digits = digits[:len(digits)-base]
	}
	sign := uint16(0)
	if digits == "" {
		weight = 0
	} else if s[0] == '-' {
		sign = negative
	}
	for _, n := range []uint16{uint16(len(digits) / base), uint16(weight), sign, uint16(decimals)} {
		b = binary.BigEndian.AppendUint16(b, n)
	}
	for ; digits != ""; digits = digits[base:] {
		n := uint16(0)
		for _, d := range []byte(digits[:base]) {
			n = 10*n + uint16(d-'0')
		}
		b = binary.BigEndian.AppendUint16(b, n)
	}
	return b, nil
}
