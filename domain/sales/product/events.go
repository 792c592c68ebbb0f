package product

import "github.com/rapport-crm/rapport/domain"

// Details is what describes a product, beside its code and price.
type Details struct {
	Name     string `json:"name" doc:"What the product is called."`
	Series   string `json:"series,omitempty" doc:"Product line."`
	Category string `json:"category,omitempty" doc:"Category for reports."`
	Unit     string `json:"unit,omitempty" doc:"Unit that quantities count."`
}

// Added says that a product entered the catalogue.
type Added struct {
	Code string `json:"code" doc:"The product's code."`
	Details
	ListPrice *domain.Money `json:"listPrice,omitempty" doc:"Price of one unit; absent when it has none."`
}

// EventType implements domain.Event.
func (Added) EventType() string { return "product.added" }

// Updated says that the description changed.
type Updated struct {
	Code string  `json:"code" doc:"The product's code."`
	From Details `json:"from" doc:"The description before."`
	To   Details `json:"to" doc:"The description after."`
}

// EventType implements domain.Event.
func (Updated) EventType() string { return "product.updated" }

// PriceChanged says that the list price changed.
type PriceChanged struct {
	Code string        `json:"code" doc:"The product's code."`
	From *domain.Money `json:"from,omitempty" doc:"The list price before; absent when there was none."`
	To   domain.Money  `json:"to" doc:"The list price now."`
}

// EventType implements domain.Event.
func (PriceChanged) EventType() string { return "product.price_changed" }

// Discontinued says that the product is no longer sold.
type Discontinued struct {
	Code   string `json:"code" doc:"The product's code."`
	Reason string `json:"reason,omitempty" doc:"Why it is no longer sold."`
}

// EventType implements domain.Event.
func (Discontinued) EventType() string { return "product.discontinued" }

// Relisted says that a discontinued product is on sale again.
type Relisted struct {
	Code string `json:"code" doc:"The product's code."`
}

// EventType implements domain.Event.
func (Relisted) EventType() string { return "product.relisted" }

var exampleDetails = Details{Name: "GTX Pro", Series: "GTX", Category: "Graphics", Unit: "piece"}

var events = []domain.EventSpec{
	{Doc: "A product entered the catalogue.", Words: domain.Words{
		En: "Product {code} “{name}” added[ at {listPrice}]",
		Zh: "新增产品{code}“{name}”[，标价{listPrice}]",
	}, Example: Added{Code: "GTX-PRO", Details: exampleDetails, ListPrice: examplePrice("4821.00")}},
	{Doc: "The description of a product changed.", Words: domain.Words{
		En: "Product {code} described anew: “{to.name}”[, series {to.series}][, category {to.category}][, per {to.unit}]",
		Zh: "产品{code}描述已更新：“{to.name}”[，系列{to.series}][，类别{to.category}][，单位{to.unit}]",
	}, Example: Updated{
		Code: "GTX-PRO", From: exampleDetails, To: Details{Name: "GTX Pro 2", Series: "GTX", Category: "Workstation", Unit: "piece"},
	}},
	{Doc: "The list price of a product changed.", Words: domain.Words{
		En: "Product {code} at {to}[, before {from}]",
		Zh: "产品{code}标价{to}[，原为{from}]",
	}, Example: PriceChanged{
		Code: "GTX-PRO", From: examplePrice("4821.00"), To: *examplePrice("4950.00"),
	}},
	{Doc: "A product is no longer sold.", Words: domain.Words{
		En: "Product {code} discontinued[: “{reason}”]",
		Zh: "产品{code}已停售[：“{reason}”]",
	}, Example: Discontinued{Code: "GTX-PRO", Reason: "Replaced by GTX Pro 2"}},
	{Doc: "A discontinued product is on sale again.", Words: domain.Words{
		En: "Product {code} on sale again",
		Zh: "产品{code}重新上架",
	}, Example: Relisted{Code: "GTX-PRO"}},
}

func examplePrice(amount string) *domain.Money { return new(domain.MustMoney(amount, "EUR")) }
