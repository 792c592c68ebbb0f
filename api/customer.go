package api

import (
	"context"
	"strings"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
)

// CustomerListParameters adds to a list what customers are often looked for by.
type CustomerListParameters struct {
	resource.ListParameters
	Phone string `query:"phone" doc:"Only customers with this telephone number, in E.164. See also /v1/customers/by-phone, which knows the numbers of contacts."`
}

// PhoneParameters ask who calls.
type PhoneParameters struct {
	resource.Consistency
	Phone string `query:"phone" required:"true" doc:"Telephone number in E.164." example:"+493012345678"`
}

// SearchParameters look for customers by name.
type SearchParameters struct {
	resource.Consistency
	Name  string `query:"name" required:"true" maxLength:"200" doc:"Part of the name, case aside." example:"acme"`
	Limit int    `query:"limit" minimum:"1" default:"20" doc:"Customers at most, up to 200."`
}

// ExternalParameters name a customer as another system does.
type ExternalParameters struct {
	resource.Consistency
	System      string `path:"system" maxLength:"100" doc:"The other system." example:"webshop"`
	ExternalID  string `path:"externalId" maxLength:"200" doc:"The identifier there." example:"17850"`
	IfNoneMatch string `header:"If-None-Match" doc:"ETag of the record that the client has."`
}

// CustomerParameters name a customer.
type CustomerParameters struct {
	resource.IDParameter
	resource.Consistency
}

// TimelineParameters ask for a page of a customer's timeline.
type TimelineParameters struct {
	resource.IDParameter
	resource.ListParameters
	Wording
}

// HistoryParameters ask for a part of a customer's history.
type HistoryParameters struct {
	resource.IDParameter
	resource.Consistency
	Wording
	After string `query:"after" doc:"Position, or id of an event, after which to go on: the member next of the part before."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Entries of a part, 200 at most."`
}

func (HistoryParameters) Heavy() bool { return true }

// HandoverParameters name an owner.
type HandoverParameters struct {
	resource.Consistency
	Owner string `query:"owner" required:"true" maxLength:"200" doc:"User name of the owner." example:"ann"`
}

func (s *Server) customerQueries() {
	resource.List(s, party.Customers, func(ctx context.Context, in *CustomerListParameters) (*resource.ListAnswer[party.Customer], error) {
		var narrowed []query.Scope
		if in.Phone != "" {
			phone, err := parsePhone(in.Phone)
			if err != nil {
				return nil, err
			}
			narrowed = append(narrowed, party.WithPhone(phone))
		}
		reads, err := s.Reads(ctx, in.Consistency, in.Cursor)
		if err != nil {
			return nil, err
		}
		page, err := party.Customers.List(ctx, reads, in.Query(), narrowed...)
		return resource.Paged(ctx, s, reads, page, err)
	})
	resource.Query(s, resource.Route{ID: "customerByExternal", Path: "/v1/customers/by/{system}/{externalId}", Tag: "customer", Doc: "Returns the customer that another system knows under an identifier."},
		func(ctx context.Context, in *ExternalParameters) (*resource.Record[party.Customer], error) {
			reads, err := s.Reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			c, at, err := party.CustomerByExternal(ctx, reads, in.System, in.ExternalID)
			if err != nil {
				return nil, err
			}
			return resource.Recorded(c, c.Revision, resource.Basis(reads, at), in.IfNoneMatch), nil
		})
	resource.Query(s, resource.Route{ID: "customersByPhone", Path: "/v1/customers/by-phone", Tag: "customer", Doc: "Says who calls: customers with a telephone number of their own or of a contact, the one we dealt with last first."},
		func(ctx context.Context, in *PhoneParameters) (*resource.ListAnswer[party.PhoneMatch], error) {
			phone, err := parsePhone(in.Phone)
			if err != nil {
				return nil, err
			}
			return resource.All(ctx, s, in.Consistency, func(reads *query.Store) ([]party.PhoneMatch, domain.Position, error) {
				return party.FindByPhone(ctx, reads, phone)
			})
		})
	resource.Query(s, resource.Route{ID: "customersByName", Path: "/v1/customers/search", Tag: "customer", Doc: "Looks for customers by a part of their name."},
		func(ctx context.Context, in *SearchParameters) (*resource.ListAnswer[party.Customer], error) {
			return resource.All(ctx, s, in.Consistency, func(reads *query.Store) ([]party.Customer, domain.Position, error) {
				return party.SearchCustomers(ctx, reads, in.Name, in.Limit)
			})
		})
	resource.Query(s, resource.Route{ID: "customer360", Path: "/v1/customers/{id}/360", Tag: "customer", Doc: "Returns everything that a person who picks up the telephone must know of a customer."},
		func(ctx context.Context, in *CustomerParameters) (*resource.View[party.Customer360], error) {
			id, err := in.Of()
			if err != nil {
				return nil, err
			}
			reads, err := s.Reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			view, at, err := party.Read360(ctx, reads, id, s.opts.Clock())
			return resource.Viewed(reads, view, at, err)
		})
	resource.List(s, party.Timeline, func(ctx context.Context, in *TimelineParameters) (*resource.ListAnswer[party.TimelineEntry], error) {
		id, err := in.Of()
		if err != nil {
			return nil, err
		}
		reads, err := s.Reads(ctx, in.Consistency, in.Cursor)
		if err != nil {
			return nil, err
		}
		page, err := party.Timelines{Store: reads}.CustomerTimeline(ctx, id, in.Query())
		if err != nil {
			return nil, err
		}
		language := told(s, in.Wording, page.Items)
		answer, err := resource.Paged(ctx, s, reads, page, nil)
		answer.Told = language
		return answer, err
	})
	if s.opts.History != nil {
		resource.Query(s, resource.Route{ID: "customerHistory", Path: "/v1/customers/{id}/history", Tag: "customer", Doc: "Returns the events of a customer and of everything linked to it from the log, the first one first: who, when, and what changed from what to what."}, s.history)
	}
	resource.Query(s, resource.Route{ID: "handover", Path: "/v1/handover", Tag: "customer", Doc: "Returns what a colleague must know who takes over from an owner."},
		func(ctx context.Context, in *HandoverParameters) (*resource.View[party.Handover], error) {
			reads, err := s.Reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			digest, at, err := party.ReadHandover(ctx, reads, in.Owner)
			return resource.Viewed(reads, digest, at, err)
		})
}

// history answers a part of a customer's history; the position of its last entry leads to the next part.
func (s *Server) history(ctx context.Context, in *HistoryParameters) (*resource.ListAnswer[query.HistoryEntry], error) {
	after, err := s.place(ctx, "after", in.After)
	if err != nil {
		return nil, err
	}
	if err := s.reached(ctx, "after", after); err != nil {
		return nil, err
	}
	id, err := in.Of()
	if err != nil {
		return nil, err
	}
	reads, err := s.Reads(ctx, in.Consistency, "")
	if err != nil {
		return nil, err
	}
	part, err := s.opts.History(reads).Customer(ctx, reads.Caller(), id, after, in.Limit)
	if err != nil {
		return nil, err
	}
	return &resource.ListAnswer[query.HistoryEntry]{
		Shown: resource.Basis(reads, part.Position),
		Told:  told(s, in.Wording, part.Items),
		Link:  resource.NextLink(ctx, s, "after", part.Next),
		Body:  query.List[query.HistoryEntry]{Items: part.Items, Next: part.Next, Position: part.Position},
	}, nil
}

// parsePhone reads a number in E.164. In a query string an unescaped plus sign arrives as a blank.
func parsePhone(text string) (string, error) {
	phone := "+" + strings.TrimLeft(text, " +")
	if !domain.IsE164(phone) {
		return "", domain.Invalid("phone", "is not a telephone number in E.164, such as +493012345678")
	}
	return phone, nil
}
