package contact

import "github.com/rapport-crm/rapport/domain"

// Details is what is known of a contact. Empty fields are unknown.
type Details struct {
	Title            string  `json:"title,omitempty" maxLength:"50" doc:"Form of address." example:"Dr"`
	GivenName        string  `json:"givenName,omitempty" maxLength:"100" personal:"true" doc:"Given name." example:"Mara"`
	MiddleName       string  `json:"middleName,omitempty" maxLength:"100" personal:"true" doc:"Middle name." example:"Sofie"`
	FamilyName       string  `json:"familyName,omitempty" maxLength:"100" personal:"true" doc:"Family name." example:"Keller"`
	Email            string  `json:"email,omitempty" maxLength:"254" personal:"true" doc:"E-mail address, stored in lower case." example:"mara.keller@acme.example"`
	Phone            string  `json:"phone,omitempty" maxLength:"50" personal:"true" doc:"Telephone number, stored as E.164." example:"+493012345679"`
	JobTitle         string  `json:"jobTitle,omitempty" maxLength:"200" doc:"Job title." example:"Head of Purchasing"`
	Department       string  `json:"department,omitempty" maxLength:"200" doc:"Department." example:"Purchasing"`
	PreferredChannel Channel `json:"preferredChannel,omitempty" enum:"phone,e-mail,sms,im,video,letter,visit" doc:"How the contact likes to be reached." example:"e-mail"`
	Language         string  `json:"language,omitempty" maxLength:"35" doc:"Language to speak and write, a BCP 47 tag." example:"de-CH"`
}

// Channel is a way to reach a contact. The zero value is no preference.
type Channel string

// Role is the part that a contact plays at a customer.
type Role string

// The roles of a contact.
const (
	Decider    Role = "decider"
	User       Role = "user"
	Influencer Role = "influencer"
	Buyer      Role = "buyer"
	Champion   Role = "champion"
	Blocker    Role = "blocker"
	OtherRole  Role = "other"
)

// RelationKind says how a contact relates to another.
type RelationKind string

// The kinds of relation, each read from the contact to the other.
const (
	ReportsTo  RelationKind = "reports-to"
	Influences RelationKind = "influences"
	Blocks     RelationKind = "blocks"
	Assists    RelationKind = "assists"
	Knows      RelationKind = "knows"
)

// CustomerFacts is what a decision must know of a customer. The zero value says that there is no such customer.
type CustomerFacts struct {
	Exists     bool
	MergedInto domain.ID // the survivor when the customer was a duplicate
}
