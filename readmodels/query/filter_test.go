package query_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// filterer is a resource.
type filterer interface {
	Where(filter string, args *query.Arguments) (string, error)
}

// translate translates a filter over Opportunity or Customer.
func translate(t testing.TB, of filterer, expression string) (string, []any, error) {
	t.Helper()
	var args query.Arguments
	sql, err := of.Where(expression, &args)
	return sql, args, err
}

func TestFiltersBecomeParameterisedConditions(t *testing.T) {
	deals := sales.Opportunities
	people := party.Customers
	for _, c := range []struct {
		of   filterer
		text string
		sql  string
		args []any
	}{
		{deals, ``, `true`, nil},
		{deals, `status == "open"`, `(status = $1::text)`, []any{"open"}},
		{deals, `"open" == status`, `(status = $1::text)`, []any{"open"}},
		{deals, `100 < probability`, `(probability > $1::numeric)`, []any{"100"}},
		{deals, `probability >= -5`, `(probability >= $1::numeric)`, []any{"-5"}},
		{deals, `amount > 1000`, `(amount is not null and amount > $1::numeric)`, []any{"1000"}},
		{deals, `amount >= 12.345`, `(amount is not null and amount >= $1::numeric)`, []any{"12.345"}},
		{deals, `amount != 1.0`, `(amount is distinct from $1::numeric)`, []any{"1"}},
		{deals, `amount == null`, `(amount is null)`, nil},
		{deals, `customerId != null`, `(customer_id is not null)`, nil},
		{deals, `closedAt == null || closedAt < timestamp("2026-01-01T00:00:00Z")`,
			`((closed_at is null) or (closed_at is not null and closed_at < $1::timestamptz))`, []any{mustTime("2026-01-01T00:00:00Z")}},
		{deals, `expectedClose <= "2026-03-31"`, `(expected_close is not null and expected_close <= $1::date)`, []any{domain.Date("2026-03-31").Time()}},
		{deals, `openedAt >= timestamp("2026-01-01T01:00:00+01:00")`, `(opened_at >= $1::timestamptz)`, []any{mustTime("2026-01-01T00:00:00Z")}},
		{deals, `!(owner in ["ann", "bob"]) && name.startsWith("Acme")`,
			`((not (owner in ($1::text, $2::text))) and (starts_with(name, $3::text)))`, []any{"ann", "bob", "Acme"}},
		{deals, `owner in []`, `false`, nil},
		{deals, `score in [1, 2]`, `(score is not null and score in ($1::numeric, $2::numeric))`, []any{"1", "2"}},
		{deals, `amount in [1.5, 2.0]`, `(amount is not null and amount in ($1::numeric, $2::numeric))`, []any{"1.5", "2"}},
		{deals, `id == "00000000-0000-7000-8000-00000000000A"`, `(id = $1::uuid)`, []any{"00000000-0000-7000-8000-00000000000a"}},
		{deals, `closedAt > openedAt`, `(closed_at is not null and closed_at > opened_at)`, nil},
		{people, `"vip" in tags && name.contains("100%_")`, `((tags ? $1::text) and (strpos(name, $2::text) > 0))`, []any{"vip", "100%_"}},
		{people, `name.lowerAscii().endsWith("ltd")`, `(right(lower(name), length($1::text)) = $1::text)`, []any{"ltd"}},
		{people, `has(externalIds.erp)`, `(external_ids ? $1::text)`, []any{"erp"}},
		{people, `externalIds.erp == "4711"`, `((external_ids->>$1::text) is not null and (external_ids->>$1::text) = $2::text)`, []any{"erp", "4711"}},
		{people, `externalIds["web shop"] == "1"`, `((external_ids->>$1::text) is not null and (external_ids->>$1::text) = $2::text)`, []any{"web shop", "1"}},
		{people, `birthDate < "1990-01-01"`, `(birth_date is not null and birth_date < $1::date)`, []any{domain.Date("1990-01-01").Time()}},
		{people, `true`, `true`, nil},
		{people, `name == "'; drop table customer; --"`, `(name = $1::text)`, []any{"'; drop table customer; --"}},
	} {
		sql, args, err := translate(t, c.of, c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		if diff := cmp.Diff(c.sql, sql); diff != "" {
			t.Errorf("%s: %s", c.text, diff)
		}
		if diff := cmp.Diff(c.args, args); diff != "" {
			t.Errorf("%s: %s", c.text, diff)
		}
	}
}

func mustTime(s string) any {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t.UTC()
}

func TestBadFiltersAreRefusedWithThePlace(t *testing.T) {
	deals := sales.Opportunities
	for text, want := range map[string]string{
		`nothing == 1`:                    "at 1:1: undeclared reference",
		`status == 1`:                     "at 1:8: found no matching overload",
		`status == "open" &&`:             "at 1:20: Syntax error",
		`amount`:                          "not a condition",
		`status == "open" ? true : false`: "at 1:18: filters do not know",
		`1 == 1`:                          "needs a field on one side",
		`amount + 1.0 > 2.0`:              "needs a field on one side",
		`size(name) > 3`:                  "needs a field on one side",
		`id == "nonsense"`:                "is not a UUID",
		`id < "00000000-0000-7000-8000-00000000000a"`: "ids compare only",
		`expectedClose == "2026-02-30"`:               "is not a day",
		`openedAt > timestamp("yesterday")`:           "is not a time",
		`name == "a\u0000b"`:                          "NUL",
		`name.contains("\u0000")`:                     "NUL",
		`name.contains(owner)`:                        "constant text",
		`name.matches("a.*")`:                         "do not know",
		`amount > null`:                               "",
		`has(name.x)`:                                 "",
		`[1, 2].exists(x, x == probability)`:          "",
		`tenant == "other"`:                           "undeclared reference",
		"status == \"\xff\"":                          "UTF-8",
		strings.Repeat("a", query.MaxFilterLength+1):  "longer than",
		strings.TrimSuffix(strings.Repeat(`status=="a"||`, query.MaxFilterTerms+1), "||"):          "more than",
		strings.Repeat("!(", 60) + "true" + strings.Repeat(")", 60):                                "",
		`owner in [` + strings.TrimSuffix(strings.Repeat(`"",`, query.MaxFilterList+1), ",") + `]`: "more than",
	} {
		_, _, err := translate(t, deals, text)
		var invalid *domain.InvalidError
		if !errors.As(err, &invalid) || invalid.Fields[0].Pointer != "filter" {
			t.Errorf("%.60s: %v", text, err)
			continue
		}
		if !strings.Contains(invalid.Fields[0].Message, want) {
			t.Errorf("%.60s: %q does not say %q", text, invalid.Fields[0].Message, want)
		}
	}
}

// FuzzFilter holds that every text is either refused as invalid or becomes a condition whose parameters all stand in it.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`status == "open" && amount > 5`, `"x" in tags`, `has(externalIds.a)`, `a.b.c`, `timestamp("2026-01-01T00:00:00Z") < changedAt`,
		`name.lowerAscii() == "a"`, `!(1 in [1])`, `kind in ["a"`, `externalIds["a"] != null`, `birthDate == "0000-00-00"`, "\x00", `name == b"x"`,
		`changedAt == timestamp("0001-01-01T00:00:00+14:00")`, `employees == 1e400`, `employees > 9223372036854775807u`,
	} {
		f.Add(seed)
	}
	people := party.Customers
	f.Fuzz(func(t *testing.T, text string) {
		var args query.Arguments
		sql, err := people.Where(text, &args)
		var invalid *domain.InvalidError
		switch {
		case err != nil && !errors.As(err, &invalid):
			t.Fatalf("%q: %v", text, err)
		case err == nil:
			for i := range args {
				if s, ok := args[i].(string); ok && (!utf8.ValidString(s) || strings.ContainsRune(s, 0)) {
					t.Fatalf("%q: PostgreSQL takes no %q", text, s)
				}
				if !strings.Contains(sql, fmt.Sprintf("$%d::", i+1)) {
					t.Fatalf("%q: parameter %d is not in %s", text, i+1, sql)
				}
			}
		}
	})
}
