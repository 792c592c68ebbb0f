package customer

import "github.com/rapport-crm/rapport/domain"

// Kind says what a customer is. It never changes.
type Kind string

// The kinds of customer. The zero value is none of them.
const (
	Company Kind = "company"
	Person  Kind = "person"
	Group   Kind = "group" // a household, an association: holds members
)

// Profile is the basic information of a customer. Empty fields are unknown.
type Profile struct {
	Name        string       `json:"name,omitempty" required:"true" minLength:"1" maxLength:"200" personal:"true" doc:"Name by which people know the customer." example:"Acme Ltd"`
	LegalName   string       `json:"legalName,omitempty" maxLength:"300" personal:"true" doc:"Registered name." example:"Acme Limited"`
	TaxID       string       `json:"taxId,omitempty" maxLength:"40" personal:"true" doc:"Tax or registration number; unique among customers, spacing and case aside." example:"DE 123456789"`
	Email       string       `json:"email,omitempty" maxLength:"254" personal:"true" doc:"E-mail address, stored in lower case; unique among customers." example:"info@acme.example"`
	Phone       string       `json:"phone,omitempty" maxLength:"50" personal:"true" doc:"Telephone number, stored as E.164; unique among customers." example:"+493012345678"`
	Website     string       `json:"website,omitempty" maxLength:"500" doc:"Address of the web site, http or https." example:"https://acme.example"`
	Address     Address      `json:"address,omitzero" personal:"true" doc:"Postal address."`
	BirthDate   domain.Date  `json:"birthDate,omitempty" format:"date" personal:"true" doc:"Day of birth; persons only." example:"1984-05-17"`
	Gender      Gender       `json:"gender,omitempty" enum:"female,male,other,undisclosed" personal:"true" doc:"Gender; persons only." example:"female"`
	Employees   int          `json:"employees,omitempty" minimum:"0" maximum:"10000000" doc:"Number of people employed; companies only." example:"120"`
	Revenue     domain.Money `json:"revenue,omitzero" doc:"Revenue of a year; companies only."`
	FoundedYear int          `json:"foundedYear,omitempty" minimum:"0" maximum:"9999" doc:"Year of foundation; companies only." example:"1999"`
}

// Address is a postal address. The zero value is none.
type Address struct {
	Street     string `json:"street,omitempty" maxLength:"300" doc:"Street, number and what else stands before the city." example:"Hauptstr. 1"`
	City       string `json:"city,omitempty" maxLength:"100" doc:"City or town." example:"Berlin"`
	Region     string `json:"region,omitempty" maxLength:"100" doc:"State, province or county." example:"Berlin"`
	PostalCode string `json:"postalCode,omitempty" maxLength:"20" doc:"Postal code." example:"10115"`
	Country    string `json:"country,omitempty" maxLength:"2" doc:"ISO 3166-1 alpha-2 code." example:"DE"`
}

// Gender is what a person says of themselves. The zero value is unknown.
type Gender string

// Classification places a customer among others. Empty fields are unclassified.
type Classification struct {
	Industry   string `json:"industry,omitempty" maxLength:"100" doc:"Line of business; companies only." example:"retail"`
	Occupation string `json:"occupation,omitempty" maxLength:"100" personal:"true" doc:"Occupation; persons only." example:"teacher"`
	AgeBand    string `json:"ageBand,omitempty" maxLength:"7" doc:"Band of ages, \"18-29\" or \"70+\"; persons only." example:"30-39"`
	Region     string `json:"region,omitempty" maxLength:"100" doc:"Sales region." example:"West"`
}

// ExternalID names the customer in another system.
type ExternalID struct {
	System string `json:"system" minLength:"1" maxLength:"100" doc:"The other system." example:"webshop"`
	ID     string `json:"id" minLength:"1" maxLength:"200" doc:"The customer's identifier there." example:"17850"`
}
