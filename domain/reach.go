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

// ChannelLabels are the words for the ways that people reach each other, which several aggregates know.
var ChannelLabels = Labels{
	"phone":  {En: "phone", Zh: "电话"},
	"fax":    {En: "fax", Zh: "传真"},
	"e-mail": {En: "e-mail", Zh: "电子邮件"},
	"web":    {En: "web", Zh: "网站"},
	"voip":   {En: "VoIP", Zh: "网络电话"},
	"video":  {En: "video", Zh: "视频"},
	"im":     {En: "IM", Zh: "即时通讯"},
	"sms":    {En: "SMS", Zh: "短信"},
	"visit":  {En: "visit", Zh: "拜访"},
	"letter": {En: "letter", Zh: "信函"},
	"social": {En: "social", Zh: "社交媒体"},
	"other":  {En: "other", Zh: "其他方式"},
}
