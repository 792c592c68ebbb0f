package customer

import (
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rapport-crm/rapport/domain"
)

// Kind says what a customer is. It never changes.
type Kind string

// The kinds of customer. The zero value is none of them.
const (
	Company Kind = "company"
	Person  Kind = "person"
	Group   Kind = "group" // a household, an association: holds members
)

// Labels implements domain.Labelled.
func (Kind) Labels() domain.Labels { return kindLabels }

var kindLabels = domain.Labels{
	string(Company): {En: "company", Zh: "公司"},
	string(Person):  {En: "person", Zh: "个人"},
	string(Group):   {En: "group", Zh: "团体"},
}

// Profile is the basic information of a customer. Empty fields are unknown.
type Profile struct {
	Name        string       `json:"name,omitempty" required:"true" minLength:"1" maxLength:"200" personal:"true" zh:"名称" doc:"Name by which people know the customer; of companies unique within their sales region, case, spacing, points and commas aside." example:"Acme Ltd"`
	LegalName   string       `json:"legalName,omitempty" maxLength:"300" personal:"true" zh:"法定名称" doc:"Registered name." example:"Acme Limited"`
	TaxID       string       `json:"taxId,omitempty" maxLength:"40" personal:"true" zh:"税号" doc:"Tax or registration number; unique among customers, spacing and case aside." example:"DE 123456789"`
	Email       string       `json:"email,omitempty" maxLength:"254" personal:"true" zh:"电子邮箱" doc:"E-mail address, stored in lower case; unique among customers." example:"info@acme.example"`
	Phone       string       `json:"phone,omitempty" maxLength:"50" personal:"true" zh:"电话" doc:"Telephone number, stored as E.164; unique among customers." example:"+493012345678"`
	Website     string       `json:"website,omitempty" maxLength:"500" zh:"网站" doc:"Address of the web site, http or https." example:"https://acme.example"`
	Address     Address      `json:"address,omitzero" personal:"true" zh:"地址" doc:"Postal address."`
	BirthDate   domain.Date  `json:"birthDate,omitempty" format:"date" personal:"true" zh:"出生日期" doc:"Day of birth; persons only." example:"1984-05-17"`
	Gender      Gender       `json:"gender,omitempty" enum:"female,male,other,undisclosed" personal:"true" zh:"性别" doc:"Gender; persons only." example:"female"`
	Employees   int          `json:"employees,omitempty" minimum:"0" maximum:"10000000" zh:"员工人数" doc:"Number of people employed; companies only." example:"120"`
	Revenue     domain.Money `json:"revenue,omitzero" zh:"年营业额" doc:"Revenue of a year; companies only."`
	FoundedYear int          `json:"foundedYear,omitempty" minimum:"0" maximum:"9999" zh:"成立年份" doc:"Year of foundation; companies only." example:"1999"`
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

// Labels implements domain.Labelled.
func (Gender) Labels() domain.Labels { return genderLabels }

var genderLabels = domain.Labels{
	"female":      {En: "female", Zh: "女"},
	"male":        {En: "male", Zh: "男"},
	"other":       {En: "other", Zh: "其他"},
	"undisclosed": {En: "undisclosed", Zh: "未透露"},
}

// Classification places a customer among others. Empty fields are unclassified.
type Classification struct {
	Industry   string `json:"industry,omitempty" maxLength:"100" zh:"行业" doc:"Line of business; companies only." example:"retail"`
	Occupation string `json:"occupation,omitempty" maxLength:"100" personal:"true" zh:"职业" doc:"Occupation; persons only." example:"teacher"`
	AgeBand    string `json:"ageBand,omitempty" maxLength:"7" zh:"年龄段" doc:"Band of ages, \"18-29\" or \"70+\"; persons only." example:"30-39"`
	Region     string `json:"region,omitempty" maxLength:"100" zh:"销售区域" doc:"Sales region." example:"West"`
}

// ExternalID names the customer in another system.
type ExternalID struct {
	System string `json:"system" minLength:"1" maxLength:"100" doc:"The other system." example:"webshop"`
	ID     string `json:"id" minLength:"1" maxLength:"200" doc:"The customer's identifier there." example:"17850"`
}

// MaxAge is the age in years beyond which a day of birth is taken for a mistake.
const MaxAge = 150

// kindFields are the fields, by JSON name, that only one kind of customer has.
var kindFields = []struct {
	name  string
	only  Kind
	given func(Profile, Classification) bool
}{
	{"birthDate", Person, func(p Profile, _ Classification) bool { return p.BirthDate != "" }},
	{"gender", Person, func(p Profile, _ Classification) bool { return p.Gender != "" }},
	{"employees", Company, func(p Profile, _ Classification) bool { return p.Employees != 0 }},
	{"revenue", Company, func(p Profile, _ Classification) bool { return !p.Revenue.Equal(domain.Money{}) }},
	{"foundedYear", Company, func(p Profile, _ Classification) bool { return p.FoundedYear != 0 }},
	{"industry", Company, func(_ Profile, c Classification) bool { return c.Industry != "" }},
	{"occupation", Person, func(_ Profile, c Classification) bool { return c.Occupation != "" }},
	{"ageBand", Person, func(_ Profile, c Classification) bool { return c.AgeBand != "" }},
}

// Take copies one field, given by its JSON name, from another profile. It reports whether there is such a field.
func (p *Profile) Take(field string, from Profile) bool { return domain.CopyField(p, field, from) }

// Take copies one field, given by its JSON name, from another classification. It reports whether there is such a field.
func (c *Classification) Take(field string, from Classification) bool {
	return domain.CopyField(c, field, from)
}

// equal compares field by field; 1.50 EUR is 1.5 EUR.
func (p Profile) equal(q Profile) bool {
	same := p.Revenue.Equal(q.Revenue)
	p.Revenue, q.Revenue = domain.Money{}, domain.Money{}
	return same && p == q
}

func updateProfile(c Customer, cmd UpdateProfile, f domain.Facts) ([]domain.Event, error) {
	to := c.Profile
	if err := domain.Revise(&to, cmd); err != nil {
		return nil, err
	}
	if domain.IsBlank(to.Name) {
		return nil, domain.Invalid("/name", "cannot be emptied")
	}

	// Only what changes is checked, so that an old value which is no longer welcome does not block other changes.
	var events []domain.Event
	var changed Profile
	for _, change := range domain.FieldChanges(c.Profile, to, Profile.equal) {
		events = append(events, ProfileChanged(change))
		changed.Take(change.Field, to)
	}
	if faults := changed.faults(f.Now); len(faults) > 0 {
		return nil, &domain.InvalidError{Fields: faults}
	}
	if err := fitsKind(c.Kind, changed, Classification{}); err != nil {
		return nil, err
	}
	return events, nil
}

func classify(c Customer, cmd Classify) ([]domain.Event, error) {
	to := c.Classification
	if err := domain.Revise(&to, cmd); err != nil {
		return nil, err
	}

	var events []domain.Event
	var changed Classification
	same := func(from, to Classification) bool { return from == to }
	for _, change := range domain.FieldChanges(c.Classification, to, same) {
		events = append(events, Classified(change))
		changed.Take(change.Field, to)
	}
	if faults := changed.faults(); len(faults) > 0 {
		return nil, &domain.InvalidError{Fields: faults}
	}
	if err := fitsKind(c.Kind, Profile{}, changed); err != nil {
		return nil, err
	}
	return events, nil
}

// fitsKind rejects fields that customers of the kind do not have.
func fitsKind(k Kind, p Profile, c Classification) error {
	for _, f := range kindFields {
		if f.only != k && f.given(p, c) {
			return domain.Reject("field-not-of-kind", "{field} is for a {kind}, not for a {customerKind}", f.name, f.only, k).At("/" + f.name)
		}
	}
	return nil
}

var ageBandPattern = regexp.MustCompile(`^(0|[1-9][0-9]{0,2})(-([1-9][0-9]{0,2})|\+)$`)

// faults returns what can never be right in the fields that are not empty.
func (p Profile) faults(now time.Time) []domain.FieldError {
	var faults []domain.FieldError
	fault := func(wrong bool, pointer, template string, values ...any) {
		if wrong {
			faults = append(faults, domain.Fault(pointer, template, values...))
		}
	}
	fault(p.TaxID != "" && normalTaxID(p.TaxID) == "", "/taxId", "has neither letters nor digits")
	fault(p.Email != "" && !domain.IsEmail(p.Email), "/email", "is not an e-mail address")
	fault(p.Phone != "" && !domain.IsE164(p.Phone), "/phone", "is not a telephone number")
	fault(p.Website != "" && !isWebsite(p.Website), "/website", "is not an http or https address")
	fault(p.Address.Country != "" && !isCountry(p.Address.Country), "/address/country", "is not an ISO 3166-1 alpha-2 code")
	if p.BirthDate != "" {
		fault(p.BirthDate > domain.DateOf(now), "/birthDate", "lies in the future")
		fault(p.BirthDate < domain.DateOf(now.AddDate(-MaxAge, 0, 0)), "/birthDate", "lies more than {years} years back", MaxAge)
	}
	fault(p.Employees < 0, "/employees", "is negative")
	fault(p.Revenue.Amount.IsNegative(), "/revenue/amount", "is negative")
	fault(!p.Revenue.IsZero() && p.Revenue.Currency == "", "/revenue/currency", "is missing")
	fault(p.FoundedYear < 0 || p.FoundedYear > now.Year(), "/foundedYear", "is not a year up to now")
	return faults
}

func (c Classification) faults() []domain.FieldError {
	if c.AgeBand == "" {
		return nil
	}
	parts := ageBandPattern.FindStringSubmatch(c.AgeBand)
	if parts != nil && parts[3] == "" {
		return nil
	}
	if parts != nil {
		from, _ := strconv.Atoi(parts[1])
		if to, _ := strconv.Atoi(parts[3]); from <= to {
			return nil
		}
	}
	return []domain.FieldError{domain.Fault("/ageBand", `is not a band of ages such as "18-29" or "70+"`)}
}

// normalTaxID leaves letters in upper case and digits, so that spacing and punctuation do not tell customers apart.
func normalTaxID(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToUpper(r)
		}
		return -1
	}, s)
}

// namesake is what two companies of one name in one sales region have in common; case, spacing, points and commas do not
// tell them apart. It is empty without a region, and for persons and groups: many of one name live in one region.
func (c Customer) namesake() string {
	if c.Kind != Company || c.Classification.Region == "" {
		return ""
	}
	name, region := label(pointsAndCommas.Replace(c.Name)), label(c.Classification.Region)
	if name == "" || region == "" {
		return ""
	}
	return name + "\n" + region // a label holds no new line
}

var pointsAndCommas = strings.NewReplacer(".", "", ",", "")

func isWebsite(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != ""
}

func isCountry(s string) bool {
	return len(s) == 2 && strings.Contains(countryCodes, " "+s+" ")
}

// countryCodes lists the officially assigned codes of ISO 3166-1 alpha-2, each between blanks, and XK, which is in
// common use for Kosovo.
const countryCodes = " AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS " +
	"BT BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI " +
	"FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR " +
	"IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM " +
	"MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT " +
	"PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM " +
	"TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW "
