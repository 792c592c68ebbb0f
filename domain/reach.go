package domain

import (
	"net/mail"
	"regexp"
)

// IsEmail reports whether s is one bare e-mail address of RFC 5322, without a display name.
func IsEmail(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Address == s
}

var e164Pattern = regexp.MustCompile(`^\+[1-9][0-9]{4,14}$`)

// IsE164 reports whether s has the form of an international telephone number of ITU-T E.164: a plus sign and up to 15
// digits. It does not know which numbers exist.
func IsE164(s string) bool { return e164Pattern.MatchString(s) }
