package domain

import (
	"strings"

	"github.com/shopspring/decimal"
)

// Limits of amounts: far above any price list, far below what would make arithmetic slow.
const (
	MaxIntegerDigits  = 18 // digits before the decimal point
	MaxFractionDigits = 6  // digits after it
)

// Decimal is an exact decimal number, a string in JSON. The zero value is 0.
type Decimal = decimal.Decimal

// ParseDecimal reads a plain decimal number ("-12.345"; no exponent, no sign but minus) within MaxIntegerDigits and
// MaxFractionDigits, or returns an *InvalidError.
func ParseDecimal(s string) (Decimal, error) {
	digits := strings.TrimPrefix(s, "-")
	whole, fraction, dot := strings.Cut(digits, ".")
	if !allDigits(whole) || dot && !allDigits(fraction) {
		return Decimal{}, Invalid("", "\"{value}\" is not a decimal number", s)
	}
	if len(whole) > MaxIntegerDigits || len(fraction) > MaxFractionDigits {
		return Decimal{}, Invalid("", "\"{value}\" has more than {integerDigits} digits before or {fractionDigits} after the point", s, MaxIntegerDigits, MaxFractionDigits)
	}
	return decimal.RequireFromString(s), nil
}

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// Currency is an ISO 4217 code of three capital letters. The zero value is no currency.
type Currency string

// ParseCurrency checks that s is an active ISO 4217 code, or returns an *InvalidError.
func ParseCurrency(s string) (Currency, error) {
	if len(s) != 3 || !strings.Contains(currencyCodes, " "+s+" ") {
		return "", Invalid("", "\"{value}\" is not an ISO 4217 currency code", s)
	}
	return Currency(s), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Currency) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCurrency(string(b))
	return err
}

// Money is an exact amount of one currency. The zero value is no money at all, which is not 0 of some currency.
type Money struct {
	Amount   Amount   `json:"amount" doc:"Exact decimal number as a string." example:"1250.50"`
	Currency Currency `json:"currency" doc:"ISO 4217 code." example:"EUR" minLength:"3" maxLength:"3"`
}

// Amount is a Decimal whose text form is bounded: it reads only what ParseDecimal accepts. The zero value is 0.
type Amount struct{ Decimal }

// NewAmount wraps an exact decimal.
func NewAmount(d Decimal) Amount { return Amount{d} }

// AmountOf wraps the exact result of a calculation, or returns an *InvalidError when it has more digits than ParseDecimal
// reads: what is stored must read back.
func AmountOf(d Decimal) (Amount, error) {
	d, err := ParseDecimal(d.String())
	return Amount{d}, err
}

// Equal reports whether both are the same number: 1.50 equals 1.5.
func (a Amount) Equal(b Amount) bool { return a.Decimal.Equal(b.Decimal) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (a *Amount) UnmarshalText(b []byte) error {
	d, err := ParseDecimal(string(b))
	a.Decimal = d
	return err
}

// UnmarshalJSON accepts a JSON string only: a JSON number may have been a binary float on its way here.
func (a *Amount) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return Invalid("", "an amount is a string such as \"12.50\", not {value}", string(b))
	}
	return a.UnmarshalText(b[1 : len(b)-1])
}

// MoneyOf parses an amount and a currency, or returns an *InvalidError.
func MoneyOf(amount, currency string) (Money, error) {
	d, err := ParseDecimal(amount)
	if err != nil {
		return Money{}, err
	}
	c, err := ParseCurrency(currency)
	return Money{Amount: Amount{d}, Currency: c}, err
}

// MustMoney is MoneyOf for constants of tests and examples; it panics on bad input.
func MustMoney(amount, currency string) Money {
	m, err := MoneyOf(amount, currency)
	if err != nil {
		panic(err)
	}
	return m
}

// IsZero reports whether m is no money at all; 0 of some currency is money.
func (m Money) IsZero() bool { return m.Currency == "" && m.Amount.IsZero() }

// Equal reports whether both are the same amount of the same currency.
func (m Money) Equal(n Money) bool {
	return m.Currency == n.Currency && m.Amount.Equal(n.Amount)
}

// Add returns m + n, or a *Rejection when the currencies differ. No money at all adds as nothing.
func (m Money) Add(n Money) (Money, error) {
	switch {
	case m.IsZero():
		return n, nil
	case n.IsZero():
		return m, nil
	case m.Currency != n.Currency:
		return Money{}, Reject("currency-mismatch", "{currency} and {otherCurrency} cannot be added", m.Currency, n.Currency)
	}
	return Money{Amount: Amount{m.Amount.Add(n.Amount.Decimal)}, Currency: m.Currency}, nil
}

// Times returns m multiplied by an exact factor.
func (m Money) Times(factor Decimal) Money {
	return Money{Amount: Amount{m.Amount.Mul(factor)}, Currency: m.Currency}
}

// String renders "1250.50 EUR".
func (m Money) String() string { return m.Amount.String() + " " + string(m.Currency) }
