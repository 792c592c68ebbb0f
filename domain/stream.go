package domain

import "strings"

// DefaultTenant owns everything in an installation for one company.
const DefaultTenant Tenant = "main"

// Tenant names one company's data: one to 32 of a-z, 0-9 and underscore.
type Tenant string

// ParseTenant checks s and returns it as a Tenant, or an *InvalidError.
func ParseTenant(s string) (Tenant, error) {
	if !isTenant(s) {
		return "", Invalid("", "tenant \"{value}\" is not 1 to 32 of a-z, 0-9 and _", s)
	}
	return Tenant(s), nil
}

func isTenant(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 32
}

// isAggregate reports whether s is a lower-case letter and up to 31 of a-z and underscore.
func isAggregate(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 32 && s[0] != '_'
}

// ID is a UUID in its canonical form: 36 characters, lower case. The zero value is empty and names nothing.
type ID string

// ParseID reads a UUID in canonical form, upper case accepted, or returns an *InvalidError.
func ParseID(s string) (ID, error) {
	if !isUUID(s) {
		return "", Invalid("", "\"{value}\" is not a UUID", s)
	}
	return ID(strings.ToLower(s)), nil
}

func isUUID(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		isHex(s[:8]) && isHex(s[9:13]) && isHex(s[14:18]) && isHex(s[19:23]) && isHex(s[24:])
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
			return false
		}
	}
	return true
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// StreamID names the stream of one aggregate: "<tenant>.<aggregate>-<uuid>".
type StreamID struct {
	Tenant    Tenant
	Aggregate string // the aggregate's name: lower-case letters and underscore
	ID        ID
}

// String renders the name under which the log knows the stream.
func (s StreamID) String() string {
	return string(s.Tenant) + "." + s.Aggregate + "-" + string(s.ID)
}

// ParseStreamID reads what String wrote: it splits at the first "." and the first "-". It returns an *InvalidError for a
// name that is not of this form.
func ParseStreamID(name string) (StreamID, error) {
	tenant, rest, ok1 := strings.Cut(name, ".")
	aggregate, id, ok2 := strings.Cut(rest, "-")
	s := StreamID{Tenant: Tenant(tenant), Aggregate: aggregate, ID: ID(id)}
	if !ok1 || !ok2 || !isTenant(tenant) || !isAggregate(aggregate) || !isUUID(id) {
		return StreamID{}, Invalid("", "\"{name}\" is not a stream of the form tenant.aggregate-uuid", name)
	}
	return s, nil
}
