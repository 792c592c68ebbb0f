package product

import "github.com/rapport-crm/rapport/domain"

// Add puts a product into the catalogue.
type Add struct {
	domain.When
	Code      string        `json:"code" doc:"Article number; unique in the catalogue." example:"GTX-PRO" minLength:"1" maxLength:"64"`
	Name      string        `json:"name" doc:"What the product is called." example:"GTX Pro" minLength:"1" maxLength:"200"`
	Series    string        `json:"series,omitempty" doc:"Product line." example:"GTX" required:"false" maxLength:"100"`
	Category  string        `json:"category,omitempty" doc:"Category for reports." example:"Graphics" required:"false" maxLength:"100"`
	Unit      string        `json:"unit,omitempty" doc:"Unit that quantities count." example:"piece" required:"false" maxLength:"40"`
	ListPrice *domain.Money `json:"listPrice,omitempty" doc:"Price of one unit before discounts; none when left out." required:"false"`
}

// CommandType implements domain.Command.
func (Add) CommandType() string { return "product.add" }

// Update changes the description of a product. A field left out stays as it is; an empty one is cleared.
type Update struct {
	domain.When
	Name     *string `json:"name,omitempty" doc:"New name." example:"GTX Pro 2" required:"false" minLength:"1" maxLength:"200"`
	Series   *string `json:"series,omitempty" doc:"New product line; empty clears it." example:"GTX" required:"false" maxLength:"100"`
	Category *string `json:"category,omitempty" doc:"New category; empty clears it." example:"Graphics" required:"false" maxLength:"100"`
	Unit     *string `json:"unit,omitempty" doc:"New unit; empty clears it." example:"piece" required:"false" maxLength:"40"`
}

// CommandType implements domain.Command.
func (Update) CommandType() string { return "product.update" }

// ChangePrice sets the list price.
type ChangePrice struct {
	domain.When
	ListPrice domain.Money `json:"listPrice" doc:"New price of one unit before discounts."`
}

// CommandType implements domain.Command.
func (ChangePrice) CommandType() string { return "product.change_price" }

// Discontinue ends the sale of a product; its history stays.
type Discontinue struct {
	domain.When
	Reason string `json:"reason,omitempty" doc:"Why it is no longer sold." example:"Replaced by GTX Pro 2" required:"false" maxLength:"500"`
}

// CommandType implements domain.Command.
func (Discontinue) CommandType() string { return "product.discontinue" }

// Relist puts a discontinued product on sale again.
type Relist struct {
	domain.When
}

// CommandType implements domain.Command.
func (Relist) CommandType() string { return "product.relist" }

var commands = []domain.CommandSpec{
	{Creates: true, Doc: "Adds a product to the catalogue.", Example: Add{
		Code: "GTX-PRO", Name: "GTX Pro", Series: "GTX", Category: "Graphics", Unit: "piece", ListPrice: examplePrice("4821.00"),
	}},
	{Doc: "Changes name, series, category or unit of a product.", Example: Update{Name: new("GTX Pro 2"), Category: new("Workstation")}},
	{Doc: "Sets the list price of a product.", Example: ChangePrice{ListPrice: *examplePrice("4950.00")}},
	{Doc: "Ends the sale of a product.", Example: Discontinue{Reason: "Replaced by GTX Pro 2"}},
	{Doc: "Puts a discontinued product on sale again.", Example: Relist{}},
}
