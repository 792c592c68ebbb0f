package domain_test

import (
	"errors"
	"testing"

	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
)

func TestACalculatedAmountReadsBackOrIsRefused(t *testing.T) {
	for s, ok := range map[string]bool{
		"0": true, "-12.5": true, "1.2500000000": true, "999999999999999999.999999": true,
		"1000000000000000000": false, "-1000000000000000000": false, "0.0000001": false,
	} {
		d := decimal.RequireFromString(s)
		a, err := domain.AmountOf(d)
		var invalid *domain.InvalidError
		if (err == nil) != ok || err != nil && !errors.As(err, &invalid) || ok && !a.Decimal.Equal(d) {
			t.Errorf("AmountOf(%s) = %v, %v", s, a, err)
		}
		var back domain.Amount
		if text, _ := a.MarshalJSON(); ok && (back.UnmarshalJSON(text) != nil || !back.Equal(a)) {
			t.Errorf("%s reads back as %s", text, back)
		}
	}
}
