package oracle

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

// judges are the columns about which the oracle has an opinion, by table. It has one about every column of the tables that
// are not here.
var judges = map[string][]string{
	"opportunity": {
		"tenant", "id", "revision", "position", "status", "stage", "visit", "probability", "stage_entered_at", "amount", "currency",
		"lines_total", "pushes", "reopened", "closed_at", "customer_id", "owner", "region", "pipeline_id", "pipeline_version",
	},
	"sales_order": {"tenant", "id", "revision", "position", "status", "total", "returned", "paid", "refunded", "outstanding", "lines"},
}

// unjudged are columns of other tables about which the oracle has no opinion: what words name.
var unjudged = map[string]bool{"customer_timeline.members": true}

func judged(table, column string) bool {
	if columns, some := judges[table]; some {
		return slices.Contains(columns, column)
	}
	return !unjudged[table+"."+column]
}

// maxDifferences bounds the report of Diff.
const maxDifferences = 20

// Diff compares the rows of a read model, structs whose fields carry db tags as projections declare them, with what the
// oracle holds, column by column. It returns "" when they agree and otherwise the differences, one a line.
func (w *World) Diff(table string, rows []any) string {
	want := map[string]row{}
	for _, r := range w.tables[table] {
		want[keyOf(r, rows)] = r
	}
	var differences []string
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	if !slices.Contains(Tables, table) {
		differ("the oracle knows no read model %s", table)
	}
	seen := map[string]bool{}
	for _, r := range rows {
		v := reflect.ValueOf(r)
		columns, key := columnsOf(v)
		expected, ok := want[key]
		switch {
		case seen[key]:
			differ("%s: %s is there twice", table, key)
		case !ok:
			differ("%s: %s should not be there", table, key)
		}
		seen[key] = true
		for _, name := range slices.Sorted(maps.Keys(columns)) {
			f := columns[name]
			got, should := plain(v.FieldByIndex(f.Index).Interface()), as(f.Type, expected[name])
			if ok && got != should && judged(table, name) {
				differ("%s: %s: %s is %q, should be %q", table, key, name, got, should)
			}
		}
		for name := range expected {
			if _, has := columns[name]; !has && name != "" {
				differ("%s: %s: there is no column %s", table, key, name)
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !seen[key] {
			differ("%s: %s is missing", table, key)
		}
	}
	if len(differences) > maxDifferences {
		differences = append(differences[:maxDifferences], fmt.Sprintf("and %d more", len(differences)-maxDifferences))
	}
	return strings.Join(differences, "\n")
}

// columnsOf returns the columns of a row struct, and its key as text.
func columnsOf(v reflect.Value) (columns map[string]reflect.StructField, key string) {
	columns = map[string]reflect.StructField{}
	var keys []string
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, option, _ := strings.Cut(f.Tag.Get("db"), ",")
		if name == "" || name == "-" {
			continue
		}
		columns[name] = f
		if option == "key" {
			keys = append(keys, name+"="+plain(v.FieldByIndex(f.Index).Interface()))
		}
	}
	return columns, strings.Join(keys, " ")
}

// keyOf is the key of an oracle's row as columnsOf makes it of the rows to compare; all columns when there is none.
func keyOf(r row, rows []any) string {
	names := slices.Sorted(maps.Keys(r))
	if len(rows) > 0 {
		names = nil
		for _, f := range reflect.VisibleFields(reflect.TypeOf(rows[0])) {
			if name, option, _ := strings.Cut(f.Tag.Get("db"), ","); option == "key" {
				names = append(names, name)
			}
		}
	}
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = name + "=" + plain(r[name])
	}
	return strings.Join(keys, " ")
}

// as renders a value of the oracle as plain renders it in a field of the type.
func as(t reflect.Type, v any) string {
	optional := t.Kind() == reflect.Pointer
	if optional {
		t = t.Elem()
	}
	switch {
	case v == nil && optional:
		return ""
	case t == reflect.TypeFor[domain.Amount]():
		return number0(v).String()
	case optional && t.Kind() == reflect.Int64:
		return fmt.Sprint(v)
	}
	return plain(v)
}

// plain renders a value so that equal values have equal texts, whatever way they came: times to the microsecond in UTC, as
// read models keep them, numbers without trailing zeros, JSON without members that say nothing. No value, an empty text, 0
// and false are all "", but for exact decimals.
func plain(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case time.Time:
		if v.IsZero() {
			return ""
		}
		return v.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	case decimal.Decimal:
		return v.String()
	case domain.Amount:
		return v.Decimal.String()
	case string:
		if t, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return plain(t)
		}
		return v
	}
	value := reflect.ValueOf(v)
	switch value.Kind() {
	case reflect.Pointer:
		if value.IsNil() {
			return ""
		}
		if value.Elem().CanInt() { // a number that may be missing: 0 is something
			return fmt.Sprint(value.Elem().Int())
		}
		return plain(value.Elem().Interface())
	case reflect.Float64:
		if value.IsZero() {
			return ""
		}
		return strconv.FormatFloat(value.Float(), 'f', -1, 64)
	case reflect.String:
		return value.String()
	case reflect.Slice:
		var parts []string
		for i := range value.Len() {
			parts = append(parts, plain(value.Index(i).Interface()))
		}
		return strings.Join(parts, ", ")
	case reflect.Map:
		var parts []string
		for e := value.MapRange(); e.Next(); {
			if text := plain(e.Value().Interface()); text != "" {
				parts = append(parts, e.Key().String()+": "+text)
			}
		}
		if parts == nil {
			return ""
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	case reflect.Struct:
		var members object
		if text, err := json.Marshal(v); err == nil && json.Unmarshal(text, &members) == nil {
			return plain(members)
		}
	}
	if value.IsValid() && value.IsZero() {
		return ""
	}
	return fmt.Sprint(v)
}
