package domain_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/shopspring/decimal"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
)

// invalid reports whether err is the answer to a value that can never be right.
func invalid(err error) bool {
	var e *domain.InvalidError
	return errors.As(err, &e) && len(e.Fields) > 0 && e.Fields[0].Message != ""
}

func TestDecimalsArePlainAndBounded(t *testing.T) {
	for _, s := range []string{
		"0", "-0", "1", "-1", "007", "12.345", "-0.000001", strings.Repeat("9", domain.MaxIntegerDigits),
		"0." + strings.Repeat("9", domain.MaxFractionDigits), "0.10",
	} {
		if _, err := domain.ParseDecimal(s); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{
		"", "-", ".", "1.", ".5", "+1", "--1", "1e3", "1E3", "0x10", "1_000", "1,5", " 1", "1 ", "NaN", "Infinity", "1.2.3", "١", "1.-2",
		strings.Repeat("9", domain.MaxIntegerDigits+1), "0." + strings.Repeat("9", domain.MaxFractionDigits+1),
	} {
		if _, err := domain.ParseDecimal(s); !invalid(err) {
			t.Errorf("%q: want it invalid, got %v", s, err)
		}
	}
}

func FuzzParseDecimal(f *testing.F) {
	for _, s := range []string{"0", "-12.345", "1e9", "+1", "", ".", "999999999999999999.999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := domain.ParseDecimal(s)
		if err != nil {
			if !invalid(err) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		again, err := domain.ParseDecimal(d.String())
		if err != nil || !again.Equal(d) {
			t.Fatalf("%q reads as %s, which reads as %s, %v", s, d, again, err)
		}
	})
}

func TestAmountsAreStringsInJSON(t *testing.T) {
	var m domain.Money
	if err := json.Unmarshal([]byte(`{"amount":"1250.50","currency":"EUR"}`), &m); err != nil || m.String() != "1250.5 EUR" {
		t.Errorf("got %s, %v", m, err)
	}
	for _, s := range []string{
		`{"amount":1250.5,"currency":"EUR"}`, `{"amount":"1e3","currency":"EUR"}`, `{"amount":"","currency":"EUR"}`,
		`{"amount":null,"currency":"EUR"}`, `{"amount":true,"currency":"EUR"}`, `{"amount":"1","currency":"eur"}`,
		`{"amount":"1","currency":"ZZZ"}`, `{"amount":"1","currency":""}`, `{"amount":"1","currency":" EU"}`,
	} {
		if err := json.Unmarshal([]byte(s), &m); !invalid(err) {
			t.Errorf("%s: want it invalid, got %v", s, err)
		}
	}
}

func FuzzMoneyJSON(f *testing.F) {
	f.Add([]byte(`{"amount":"1250.50","currency":"EUR"}`))
	f.Add([]byte(`{"amount":1,"currency":"EUR"}`))
	f.Add([]byte(`{"amount":"","currency":"X"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m, again domain.Money
		if json.Unmarshal(data, &m) != nil {
			return
		}
		text, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if m.Currency == "" {
			return // a field was left out: whether it may be is for the structure around it to say
		}
		if err := json.Unmarshal(text, &again); err != nil || !again.Equal(m) {
			t.Fatalf("%s became %s: %v", m, again, err)
		}
	})
}

func TestCurrenciesAreISO4217(t *testing.T) {
	for _, s := range []string{"EUR", "USD", "CNY", "AED", "ZWG", "XCG"} {
		if c, err := domain.ParseCurrency(s); err != nil || string(c) != s {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "eur", "EU", "EURO", "   ", "ZZZ", "E R", "AED AFN", "HRK", "DEM"} {
		if _, err := domain.ParseCurrency(s); !invalid(err) {
			t.Errorf("%q: want it invalid, got %v", s, err)
		}
	}
}

func FuzzParseCurrency(f *testing.F) {
	f.Add("EUR")
	f.Add("  E")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := domain.ParseCurrency(s)
		if err == nil && (string(c) != s || len(s) != 3 || strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "") {
			t.Fatalf("%q is taken for a currency", s)
		}
	})
}

func TestMoneyOfOneCurrencyAddsExactly(t *testing.T) {
	sum, err := domain.MustMoney("0.1", "EUR").Add(domain.MustMoney("0.2", "EUR"))
	if err != nil || !sum.Equal(domain.MustMoney("0.30", "EUR")) {
		t.Errorf("got %s, %v", sum, err)
	}
	_, err = domain.MustMoney("1", "EUR").Add(domain.MustMoney("0", "USD"))
	var r *domain.Rejection
	if !errors.As(err, &r) || r.Rule != "currency-mismatch" {
		t.Errorf("got %v", err)
	}
	one := domain.MustMoney("1", "EUR")
	for _, pair := range [][2]domain.Money{{one, {}}, {{}, one}} {
		if sum, err := pair[0].Add(pair[1]); err != nil || !sum.Equal(one) {
			t.Errorf("%s + %s: got %s, %v", pair[0], pair[1], sum, err)
		}
	}
	factor, err := domain.ParseDecimal("2.5")
	if got := one.Times(factor); err != nil || !got.Equal(domain.MustMoney("2.5", "EUR")) {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestNoMoneyIsNotZeroOfACurrency(t *testing.T) {
	zero := domain.MustMoney("0", "EUR")
	if zero.Equal(domain.Money{}) || zero.IsZero() || !(domain.Money{}).IsZero() {
		t.Error("0 EUR is money, no money is not")
	}
	if _, err := domain.MoneyOf("1", "XYZ"); !invalid(err) {
		t.Errorf("got %v", err)
	}
	if _, err := domain.MoneyOf("one", "EUR"); !invalid(err) {
		t.Errorf("got %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("MustMoney took nonsense")
		}
	}()
	domain.MustMoney("one", "EUR")
}

func TestSumsDoNotDependOnOrder(t *testing.T) {
	amounts := rapid.SliceOfN(rapid.Map(rapid.Int64Range(-1e15, 1e15), func(n int64) domain.Money {
		return domain.Money{Amount: domain.NewAmount(decimal.New(n, -3)), Currency: "EUR"}
	}), 1, 20)
	rapid.Check(t, func(t *rapid.T) {
		list := amounts.Draw(t, "amounts")
		shuffled := rapid.Permutation(list).Draw(t, "shuffled")
		var a, b domain.Money
		for i := range list {
			var err1, err2 error
			a, err1 = a.Add(list[i])
			b, err2 = b.Add(shuffled[i])
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
		}
		if !a.Equal(b) {
			t.Fatalf("%s and %s", a, b)
		}
	})
}
