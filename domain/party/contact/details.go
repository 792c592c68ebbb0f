package contact

import (
	"regexp"

	"github.com/rapport-crm/rapport/domain"
)

// Details is what is known of a contact. Empty fields are unknown.
type Details struct {
	Title            string  `json:"title,omitempty" maxLength:"50" zh:"称谓" doc:"Form of address." example:"Dr"`
	GivenName        string  `json:"givenName,omitempty" maxLength:"100" personal:"true" zh:"名" doc:"Given name." example:"Mara"`
	MiddleName       string  `json:"middleName,omitempty" maxLength:"100" personal:"true" zh:"中间名" doc:"Middle name." example:"Sofie"`
	FamilyName       string  `json:"familyName,omitempty" maxLength:"100" personal:"true" zh:"姓" doc:"Family name." example:"Keller"`
	Email            string  `json:"email,omitempty" maxLength:"254" personal:"true" zh:"电子邮箱" doc:"E-mail address, stored in lower case." example:"mara.keller@acme.example"`
	Phone            string  `json:"phone,omitempty" maxLength:"50" personal:"true" zh:"电话" doc:"Telephone number, stored as E.164." example:"+493012345679"`
	JobTitle         string  `json:"jobTitle,omitempty" maxLength:"200" zh:"职务" doc:"Job title." example:"Head of Purchasing"`
	Department       string  `json:"department,omitempty" maxLength:"200" zh:"部门" doc:"Department." example:"Purchasing"`
	PreferredChannel Channel `json:"preferredChannel,omitempty" enum:"phone,e-mail,sms,im,video,letter,visit" zh:"偏好渠道" doc:"How the contact likes to be reached." example:"e-mail"`
	Language         string  `json:"language,omitempty" maxLength:"35" zh:"语言" doc:"Language to speak and write, a BCP 47 tag." example:"de-CH"`
}

// Channel is a way to reach a contact. The zero value is no preference.
type Channel string

// Labels implements domain.Labelled.
func (Channel) Labels() domain.Labels { return domain.ChannelLabels }

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

// Labels implements domain.Labelled.
func (Role) Labels() domain.Labels { return roleLabels }

var roleLabels = domain.Labels{
	string(Decider):    {En: "decider", Zh: "决策者"},
	string(User):       {En: "user", Zh: "使用者"},
	string(Influencer): {En: "influencer", Zh: "影响者"},
	string(Buyer):      {En: "buyer", Zh: "采购者"},
	string(Champion):   {En: "champion", Zh: "支持者"},
	string(Blocker):    {En: "blocker", Zh: "反对者"},
	string(OtherRole):  {En: "other", Zh: "其他角色"},
}

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

// Labels implements domain.Labelled.
func (RelationKind) Labels() domain.Labels { return relationLabels }

var relationLabels = domain.Labels{
	string(ReportsTo):  {En: "reports to", Zh: "汇报给"},
	string(Influences): {En: "influences", Zh: "影响"},
	string(Blocks):     {En: "blocks", Zh: "阻碍"},
	string(Assists):    {En: "assists", Zh: "协助"},
	string(Knows):      {En: "knows", Zh: "认识"},
}

// CustomerFacts is what a decision must know of a customer. The zero value says that there is no such customer.
type CustomerFacts struct {
	Exists     bool
	MergedInto domain.ID // the survivor when the customer was a duplicate
}

// Take copies one field, given by its JSON name, from other details. It reports whether there is such a field.
func (d *Details) Take(field string, from Details) bool { return domain.CopyField(d, field, from) }

var languagePattern = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`)

// check refuses what can never be right in the changed fields, and a whole that has no name. Only what changes is checked,
// so that an old value which is no longer welcome does not block other changes.
func check(changed, whole Details) error {
	var faults []domain.FieldError
	fault := func(wrong bool, pointer, template string, values ...any) {
		if wrong {
			faults = append(faults, domain.Fault(pointer, template, values...))
		}
	}
	fault(domain.IsBlank(whole.GivenName) && domain.IsBlank(whole.FamilyName), "/familyName", "is blank, and so is the given name")
	fault(changed.Email != "" && !domain.IsEmail(changed.Email), "/email", "is not an e-mail address")
	fault(changed.Phone != "" && !domain.IsE164(changed.Phone), "/phone", "is not a telephone number")
	fault(changed.Language != "" && !languagePattern.MatchString(changed.Language), "/language", "is not a BCP 47 language tag")
	if len(faults) > 0 {
		return &domain.InvalidError{Fields: faults}
	}
	return nil
}
