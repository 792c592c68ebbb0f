package domain

import "slices"

// Caller is who asks for something: a request of the API, a verb of the command line, or a process. Every question and every
// command has one, and is bounded by it.
type Caller struct {
	Tenant Tenant // whose data the caller may see and change; empty means nobody's
	Actor  Actor
}

// Admit refuses, by a *ForbiddenError, a caller who may ask for nothing: one of a tenant that is not served here, or one without a
// name. It is the one rule of queries and commands, until sign-in says who may ask for what. It looks at the caller alone, so that a
// refusal tells of no record.
func (c Caller) Admit(served []Tenant) error {
	switch {
	case !slices.Contains(served, c.Tenant):
		return &ForbiddenError{What: "ask for a tenant that is not served"}
	case c.Actor.ID == "" || c.Actor.Kind == "":
		return &ForbiddenError{What: "ask without a name"}
	}
	return nil
}

// Redact returns an event as the caller may see it, and false when the caller may not know that there is one. It is the one
// guard of every door through which events themselves leave: the feed, histories, replays, explanations and dry runs. So far
// it keeps tenants apart.
func (c Caller) Redact(e Recorded) (Recorded, bool) {
	if c.Tenant == "" || e.Tenant != c.Tenant || e.Stream.Tenant != c.Tenant {
		return Recorded{}, false
	}
	return e, true
}
