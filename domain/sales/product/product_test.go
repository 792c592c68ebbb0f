package product

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

func given(events ...domain.Event) domaintest.Scenario[Product] {
	return domaintest.Given(Aggregate.Decider, events...)
}

func eur(amount string) *domain.Money { return new(domain.MustMoney(amount, "EUR")) }

var (
	details = Details{Name: "MG Special", Series: "MG"}
	added   = Added{Code: "MG-S", Details: details, ListPrice: eur("55")}
)

func TestSpecs(t *testing.T) { domaintest.Specs(t, Aggregate.Definition()) }

func TestEvents(t *testing.T) { codectest.Golden(t, Aggregate.Definition(), "testdata/events") }

func TestAddListsAProduct(t *testing.T) {
	c := Add{Code: "MG-S", Name: "MG Special", Series: "MG", ListPrice: eur("55")}
	given().When(c).Then(t, added)
	given(added).When(c).Rejected(t, "product-exists")
	c.ListPrice = nil
	given().When(c).Then(t, Added{Code: "MG-S", Details: details})
}

func TestAPriceIsNotNegative(t *testing.T) {
	given().When(Add{Code: "MG-S", Name: "MG Special", ListPrice: eur("-1")}).Invalid(t, "/listPrice/amount")
	given(added).When(ChangePrice{ListPrice: *eur("-0.01")}).Invalid(t, "/listPrice/amount")
	given(added).When(ChangePrice{ListPrice: *eur("0")}).Then(t, PriceChanged{Code: "MG-S", From: eur("55"), To: *eur("0")})
}

func TestChangePriceTellsTheOldPrice(t *testing.T) {
	given(added).When(ChangePrice{ListPrice: *eur("55.00")}).Then(t)
	given(added).When(ChangePrice{ListPrice: domain.MustMoney("55", "USD")}).
		Then(t, PriceChanged{Code: "MG-S", From: eur("55"), To: domain.MustMoney("55", "USD")})
	given(Added{Code: "MG-S", Details: details}).When(ChangePrice{ListPrice: *eur("60")}).
		Then(t, PriceChanged{Code: "MG-S", To: *eur("60")})
}

func TestUpdateChangesWhatIsGivenAndClearsWhatIsEmpty(t *testing.T) {
	given(added).When(Update{}).Then(t)
	given(added).When(Update{Name: new("MG Special"), Unit: new("")}).Then(t)
	given(added).When(Update{Series: new(""), Category: new("Basic"), Unit: new("piece")}).
		Then(t, Updated{Code: "MG-S", From: details, To: Details{Name: "MG Special", Category: "Basic", Unit: "piece"}})
}

func TestDiscontinuedProductsCanBeRelisted(t *testing.T) {
	given(added).When(Relist{}).Then(t)
	given(added).When(Discontinue{Reason: "old"}).Then(t, Discontinued{Code: "MG-S", Reason: "old"})
	given(added, Discontinued{Code: "MG-S"}).When(Discontinue{Reason: "older"}).Then(t)
	given(added, Discontinued{Code: "MG-S"}).When(Relist{}).Then(t, Relisted{Code: "MG-S"})
}

func TestTheCodeIsUnique(t *testing.T) {
	want := []domain.Key{{Kind: "product-code", Value: "MG-S", Pointer: "/code"}}
	if diff := cmp.Diff(want, Aggregate.Keys(Aggregate.Decider.Fold(added))); diff != "" {
		t.Error(diff)
	}
	if got := Aggregate.Keys(Product{}); got != nil {
		t.Errorf("a product that was not added holds %v", got)
	}
}

func TestExamplesAreAccepted(t *testing.T) {
	for _, spec := range Aggregate.Commands {
		scenario := given(added)
		if spec.Creates {
			scenario = given()
		}
		scenario.When(spec.Example).Accepted(t)
	}
}

func TestOtherCommandsAreABug(t *testing.T) {
	if _, err := decide(Product{}, nil, domain.Facts{}); err == nil {
		t.Error("a foreign command was decided")
	}
}

// Whatever happens to a product, a repeated command changes nothing and the history tells an unbroken story: every change
// starts from what the change before led to.
func TestHistoriesAreUnbroken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := evolve(Product{}, added)
		for range rapid.IntRange(1, 30).Draw(t, "commands") {
			c := drawCommand(t)
			events, err := decide(p, c, domain.Facts{})
			if err != nil {
				t.Fatalf("%#v: %v", c, err)
			}
			for _, e := range events {
				switch e := e.(type) {
				case Updated:
					if e.From != p.Details {
						t.Fatalf("updated from %v, it was %v", e.From, p.Details)
					}
				case PriceChanged:
					if !e.From.Equal(*p.ListPrice) {
						t.Fatalf("price changed from %v, it was %v", e.From, p.ListPrice)
					}
				}
				p = evolve(p, e)
			}
			if again, err := decide(p, c, domain.Facts{}); len(again) > 0 || err != nil {
				t.Fatalf("repeating %#v caused %v, %v", c, again, err)
			}
		}
	})
}

func drawCommand(t *rapid.T) domain.Command {
	text := rapid.SampledFrom([]string{"", "a", "b"})
	switch rapid.IntRange(0, 3).Draw(t, "command") {
	case 0:
		return Update{Name: rapid.Ptr(text, true).Draw(t, "name"), Unit: rapid.Ptr(text, true).Draw(t, "unit")}
	case 1:
		return ChangePrice{ListPrice: *eur(rapid.SampledFrom([]string{"0", "55.0", "60.125"}).Draw(t, "price"))}
	case 2:
		return Discontinue{}
	}
	return Relist{}
}
