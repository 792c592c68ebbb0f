package party

import (
	"strings"

	"github.com/nyaruka/phonenumbers"

	"github.com/rapport-crm/rapport/domain"
)

// normalEmail returns the form in which an e-mail address is stored and compared, or an *domain.InvalidError for the
// field. RFC 5321 §2.4 allows the local part to depend on case; no provider of note does.
func normalEmail(s, pointer string) (string, error) {
	s = strings.ToLower(strings.TrimSpace(s))
	if s != "" && !domain.IsEmail(s) {
		return "", domain.Invalid(pointer, "is not an e-mail address")
	}
	return s, nil
}

// normalPhone returns a telephone number as E.164, or an *domain.InvalidError for the field. A number without + is read
// as dialled in country (ISO 3166-1 alpha-2), which may be empty. What looks like E.164 is read, too: it may hold the 0 that
// is dialled inside the country, or a country that there is not.
func normalPhone(s, country, pointer string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", nil
	}
	if country == "" && !isInternational(s) {
		return "", domain.Invalid(pointer, "is a number without country: write +, country code and number, or give the address a country")
	}
	n, err := phonenumbers.Parse(s, strings.ToUpper(country))
	if err != nil || !phonenumbers.IsPossibleNumber(n) {
		return "", domain.Invalid(pointer, "is not a telephone number")
	}
	return phonenumbers.Format(n, phonenumbers.E164), nil
}

// isInternational reports whether a telephone number says its country itself.
func isInternational(s string) bool { return strings.HasPrefix(strings.TrimSpace(s), "+") }

// normal applies one of the above to an optional field; nil stays nil. The value pointed at is the caller's and stays.
func normal(field **string, normalise func(string) (string, error)) error {
	if *field == nil {
		return nil
	}
	s, err := normalise(**field)
	*field = &s
	return err
}
