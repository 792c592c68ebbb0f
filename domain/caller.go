package domain

// Caller is who asks for something: a request of the API, a verb of the command line, or a process. Every question and every
// command has one, and is bounded by it.
type Caller struct {
	Tenant Tenant // whose data the caller may see and change; empty means nobody's
	Actor  Actor
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
