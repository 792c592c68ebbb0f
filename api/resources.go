package api

import (
	"context"
	"strings"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/readmodels"
)

// queryRoutes offers every read model.
func (s *Server) queryRoutes() error {
	s.customerQueries()
	s.catalogueQueries()
	s.salesQueries()
	s.funnelQuery()
	return nil
}

// examples are those of the parameters of a list.
func examples(filter, sort string) map[string]any {
	return map[string]any{"filter": filter, "sort": sort, "limit": 20, "count": "exact"}
}

// CustomerListParameters adds to a list what customers are often looked for by.
type CustomerListParameters struct {
	ListParameters
	Phone string `query:"phone" doc:"Only customers with this telephone number, in E.164. See also /v1/customers/by-phone, which knows the numbers of contacts."`
}

// PhoneParameters ask who calls.
type PhoneParameters struct {
	Consistency
	Phone string `query:"phone" required:"true" doc:"Telephone number in E.164." example:"+493012345678"`
}

// SearchParameters look for customers by name.
type SearchParameters struct {
	Consistency
	Name  string `query:"name" required:"true" maxLength:"200" doc:"Part of the name, case aside." example:"acme"`
	Limit int    `query:"limit" minimum:"1" default:"20" doc:"Customers at most, up to 200."`
}

// ExternalParameters name a customer as another system does.
type ExternalParameters struct {
	Consistency
	System      string `path:"system" maxLength:"100" doc:"The other system." example:"webshop"`
	ExternalID  string `path:"externalId" maxLength:"200" doc:"The identifier there." example:"17850"`
	IfNoneMatch string `header:"If-None-Match" doc:"ETag of the record that the client has."`
}

// CustomerParameters name a customer.
type CustomerParameters struct {
	IDParameter
	Consistency
}

// TimelineParameters ask for a page of a customer's timeline.
type TimelineParameters struct {
	IDParameter
	ListParameters
	Wording
}

// HistoryParameters ask for a part of a customer's history.
type HistoryParameters struct {
	IDParameter
	Consistency
	Wording
	After string `query:"after" doc:"Position, or id of an event, after which to go on: the member next of the part before."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"Entries of a part, 200 at most."`
}

func (HistoryParameters) heavy() bool { return true }

// HandoverParameters name an owner.
type HandoverParameters struct {
	Consistency
	Owner string `query:"owner" required:"true" maxLength:"200" doc:"User name of the owner." example:"ann"`
}

func (s *Server) customerQueries() {
	query(s, route{"customers", "/v1/customers", "customer", "Lists customers, merged ones included.", examples(`status == "active" && kind == "company"`, "name")},
		func(ctx context.Context, in *CustomerListParameters) (*ListAnswer[readmodels.Customer], error) {
			reads, err := s.reads(ctx, in.Consistency, in.Cursor)
			if err != nil {
				return nil, err
			}
			if in.Phone == "" {
				page, err := reads.Customers(ctx, tenant, in.query())
				return listAnswer(ctx, reads, page, err)
			}
			phone, err := parsePhone(in.Phone)
			if err != nil {
				return nil, err
			}
			page, err := reads.CustomersWithPhone(ctx, tenant, phone, in.query())
			return listAnswer(ctx, reads, page, err)
		})
	record(s, route{"customer", "/v1/customers/{id}", "customer", "Returns one customer.", nil}, true,
		(*readmodels.Store).Customer, func(c readmodels.Customer) int64 { return c.Revision })
	query(s, route{"customerByExternal", "/v1/customers/by/{system}/{externalId}", "customer", "Returns the customer that another system knows under an identifier.", nil},
		func(ctx context.Context, in *ExternalParameters) (*Record[readmodels.Customer], error) {
			reads, err := s.reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			c, at, err := reads.CustomerByExternal(ctx, tenant, in.System, in.ExternalID)
			if err != nil {
				return nil, err
			}
			return recordAnswer(c, c.Revision, shown(reads, at), in.IfNoneMatch), nil
		})
	query(s, route{"customersByPhone", "/v1/customers/by-phone", "customer", "Says who calls: customers with a telephone number of their own or of a contact, the one we dealt with last first.", nil},
		func(ctx context.Context, in *PhoneParameters) (*ListAnswer[readmodels.PhoneMatch], error) {
			phone, err := parsePhone(in.Phone)
			if err != nil {
				return nil, err
			}
			return all(ctx, s, in.Consistency, func(reads *readmodels.Store) ([]readmodels.PhoneMatch, domain.Position, error) {
				return reads.FindByPhone(ctx, tenant, phone)
			})
		})
	query(s, route{"customersByName", "/v1/customers/search", "customer", "Looks for customers by a part of their name.", nil},
		func(ctx context.Context, in *SearchParameters) (*ListAnswer[readmodels.Customer], error) {
			return all(ctx, s, in.Consistency, func(reads *readmodels.Store) ([]readmodels.Customer, domain.Position, error) {
				return reads.SearchCustomers(ctx, tenant, in.Name, in.Limit)
			})
		})
	query(s, route{"customer360", "/v1/customers/{id}/360", "customer", "Returns everything that a person who picks up the telephone must know of a customer.", nil},
		func(ctx context.Context, in *CustomerParameters) (*View[readmodels.Customer360], error) {
			id, err := parseID(in.ID)
			if err != nil {
				return nil, err
			}
			reads, err := s.reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			view, at, err := reads.Customer360(ctx, tenant, id, s.opts.Clock())
			return viewAnswer(reads, view, at, err)
		})
	query(s, route{"customerTimeline", "/v1/customers/{id}/timeline", "customer", "Lists what happened to a customer, in words, newest first.", examples(`aggregate == "opportunity"`, "-position")},
		func(ctx context.Context, in *TimelineParameters) (*ListAnswer[readmodels.TimelineEntry], error) {
			id, err := parseID(in.ID)
			if err != nil {
				return nil, err
			}
			reads, err := s.reads(ctx, in.Consistency, in.Cursor)
			if err != nil {
				return nil, err
			}
			page, err := reads.CustomerTimeline(ctx, tenant, id, in.query())
			if err != nil {
				return nil, err
			}
			language := told(s, in.Wording, page.Items)
			answer, err := listAnswer(ctx, reads, page, nil)
			answer.Told = language
			return answer, err
		})
	if s.opts.History != nil {
		query(s, route{"customerHistory", "/v1/customers/{id}/history", "customer", "Returns the events of a customer and of everything linked to it from the log, the first one first: who, when, and what changed from what to what.", nil}, s.history)
	}
	list(s, route{"commitments", "/v1/commitments", "customer", "Lists what was promised to customers.", examples(`status == "open" && due < "2026-04-01"`, "due")}, (*readmodels.Store).Commitments)
	list(s, route{"customerOwners", "/v1/customer-owners", "customer", "Lists who looked after each customer from when on.", examples(`owner == "ann"`, "-since")}, (*readmodels.Store).CustomerOwners)
	list(s, route{"customerRelations", "/v1/customer-relations", "customer", "Lists which customers belong, or belonged, to which: companies to a parent, members to a group, duplicates to the customer that stands for them.", examples(`kind == "member" && until == null`, "since")}, (*readmodels.Store).CustomerRelations)
	list(s, route{"externalIds", "/v1/external-ids", "customer", "Lists the identifiers of customers in other systems.", examples(`system == "webshop"`, "externalId")}, (*readmodels.Store).CustomerExternals)
	list(s, route{"feedback", "/v1/feedback", "customer", "Lists what customers said of us.", examples(`polarity == "complaint"`, "-occurredAt")}, (*readmodels.Store).Feedback)
	query(s, route{"handover", "/v1/handover", "customer", "Returns what a colleague must know who takes over from an owner.", nil},
		func(ctx context.Context, in *HandoverParameters) (*View[readmodels.Handover], error) {
			reads, err := s.reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			digest, at, err := reads.Handover(ctx, tenant, in.Owner)
			return viewAnswer(reads, digest, at, err)
		})
}

// history answers a part of a customer's history; the position of its last entry leads to the next part.
func (s *Server) history(ctx context.Context, in *HistoryParameters) (*ListAnswer[readmodels.HistoryEntry], error) {
	after, err := s.place(ctx, "after", in.After)
	if err != nil {
		return nil, err
	}
	if err := s.reached(ctx, "after", after); err != nil {
		return nil, err
	}
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	reads, err := s.reads(ctx, in.Consistency, "")
	if err != nil {
		return nil, err
	}
	part, err := s.opts.History(reads).Customer(ctx, tenant, id, after, in.Limit)
	if err != nil {
		return nil, err
	}
	return &ListAnswer[readmodels.HistoryEntry]{
		Shown: shown(reads, part.Position),
		Told:  told(s, in.Wording, part.Items),
		Link:  nextLink(ctx, "after", part.Next),
		Body:  List[readmodels.HistoryEntry]{Items: part.Items, Next: part.Next, Position: part.Position},
	}, nil
}

func (s *Server) catalogueQueries() {
	list(s, route{"contacts", "/v1/contacts", "contact", "Lists contacts.", examples(`status == "active"`, "familyName,givenName")}, (*readmodels.Store).Contacts)
	record(s, route{"contact", "/v1/contacts/{id}", "contact", "Returns one contact with its links and relations.", nil}, false, // other contacts relate to it
		(*readmodels.Store).Contact, func(c readmodels.ContactDetail) int64 { return c.Revision })
	list(s, route{"contactLinks", "/v1/contact-links", "contact", "Lists which contact plays, or played, which part at which customer.", examples(`role == "buyer" && until == null`, "since")}, (*readmodels.Store).ContactLinks)
	list(s, route{"contactRelations", "/v1/contact-relations", "contact", "Lists how contacts relate to each other.", examples(`kind == "reports-to"`, "since")}, (*readmodels.Store).ContactRelations)
	list(s, route{"interactions", "/v1/interactions", "interaction", "Lists dealings with customers, retracted ones included.", examples(`channel == "phone" && status == "logged"`, "-startedAt")}, (*readmodels.Store).Interactions)
	record(s, route{"interaction", "/v1/interactions/{id}", "interaction", "Returns one dealing with a customer.", nil}, true,
		(*readmodels.Store).Interaction, func(i readmodels.Interaction) int64 { return i.Revision })
	list(s, route{"products", "/v1/products", "product", "Lists the catalogue.", examples(`status == "active"`, "code")}, (*readmodels.Store).Products)
	record(s, route{"product", "/v1/products/{id}", "product", "Returns one product.", nil}, true,
		(*readmodels.Store).Product, func(p readmodels.Product) int64 { return p.Revision })
	list(s, route{"pipelines", "/v1/pipelines", "pipeline", "Lists pipelines in their newest version.", examples(`status == "active"`, "name")}, (*readmodels.Store).Pipelines)
	record(s, route{"pipeline", "/v1/pipelines/{id}", "pipeline", "Returns one pipeline with all its versions.", nil}, true,
		(*readmodels.Store).Pipeline, func(p readmodels.PipelineDetail) int64 { return p.Revision })
	list(s, route{"pipelineVersions", "/v1/pipeline-versions", "pipeline", "Lists every version of pipelines, with where the stages of the version before went.", examples(`version == 1`, "-since")}, (*readmodels.Store).PipelineVersions)
}

// BoardParameters choose the open opportunities of a board.
type BoardParameters struct {
	Consistency
	PipelineID string `query:"pipelineId" default:"00000000-0000-7000-8000-000000000001" doc:"The pipeline; the default one when left out."`
	Filter     string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an opportunity." example:"owner == \"ann\""`
}

// FilterParameters choose the orders of a sum.
type FilterParameters struct {
	Consistency
	Filter string `query:"filter" maxLength:"4000" doc:"CEL expression over the fields of an order." example:"kind == \"sale\""`
}

func (s *Server) salesQueries() {
	list(s, route{"opportunities", "/v1/opportunities", "opportunity", "Lists opportunities.", examples(`status == "open" && amount >= 1000`, "expectedClose")}, (*readmodels.Store).Opportunities)
	record(s, route{"opportunity", "/v1/opportunities/{id}", "opportunity", "Returns one opportunity with its lines, stakeholders and visits of stages.", nil}, true,
		(*readmodels.Store).Opportunity, func(o readmodels.OpportunityDetail) int64 { return o.Revision })
	query(s, route{"board", "/v1/opportunities/board", "opportunity", "Returns the open opportunities of a pipeline by stage.", nil},
		func(ctx context.Context, in *BoardParameters) (*View[readmodels.Board], error) {
			pipeline, err := parsePipeline(in.PipelineID)
			if err != nil {
				return nil, err
			}
			reads, err := s.reads(ctx, in.Consistency, "")
			if err != nil {
				return nil, err
			}
			board, at, err := reads.Board(ctx, tenant, pipeline, in.Filter)
			return viewAnswer(reads, board, at, err)
		})
	list(s, route{"opportunityLines", "/v1/opportunity-lines", "opportunity", "Lists what is offered.", examples(`currency == "EUR"`, "opportunityId,line")}, (*readmodels.Store).OpportunityLines)
	list(s, route{"opportunityStakeholders", "/v1/opportunity-stakeholders", "opportunity", "Lists contacts that have, or had, a say in opportunities.", examples(`role == "decider" && until == null`, "since")}, (*readmodels.Store).OpportunityStakeholders)
	list(s, route{"opportunityAmounts", "/v1/opportunity-amounts", "opportunity", "Lists every value that opportunities were estimated or won at, from when on.", examples(`amount >= 1000`, "-occurredAt")}, (*readmodels.Store).OpportunityAmounts)
	list(s, route{"stageVisits", "/v1/stage-visits", "opportunity", "Lists the stays of opportunities in stages.", examples(`leftBy == "won"`, "-enteredAt")}, (*readmodels.Store).StageVisits)
	list(s, route{"orders", "/v1/orders", "order", "Lists orders, credits and adjustments.", examples(`kind == "sale" && total > 100`, "-placedAt")}, (*readmodels.Store).Orders)
	record(s, route{"order", "/v1/orders/{id}", "order", "Returns one order with its lines and payments.", nil}, true,
		(*readmodels.Store).Order, func(o readmodels.OrderDetail) int64 { return o.Revision })
	query(s, route{"orderTotals", "/v1/orders/totals", "order", "Sums orders by currency, kind and status.", nil},
		func(ctx context.Context, in *FilterParameters) (*ListAnswer[readmodels.OrderTotal], error) {
			return all(ctx, s, in.Consistency, func(reads *readmodels.Store) ([]readmodels.OrderTotal, domain.Position, error) {
				return reads.OrderTotals(ctx, tenant, in.Filter)
			})
		})
	list(s, route{"orderLines", "/v1/order-lines", "order", "Lists lines of orders.", examples(`kind == "sale"`, "orderId,line")}, (*readmodels.Store).OrderLines)
	list(s, route{"payments", "/v1/payments", "order", "Lists payments and refunds.", examples(`kind == "received"`, "-occurredAt")}, (*readmodels.Store).Payments)
	list(s, route{"customerSales", "/v1/customer-sales", "order", "Lists sales per customer and currency.", examples(`net > 0`, "-net")}, (*readmodels.Store).CustomerSales)
	list(s, route{"logTimes", "/v1/log-times", "event", "Lists the seconds in which events were recorded, and where in the log they stand.", examples(`events > 10`, "-second")}, (*readmodels.Store).LogTimes)
	list(s, route{"productSales", "/v1/product-sales", "order", "Lists sales per product and currency.", examples(`revenue > 0`, "-revenue")}, (*readmodels.Store).ProductSales)
}

// all answers a list that is not paged.
func all[R any](ctx context.Context, s *Server, c Consistency, read func(*readmodels.Store) ([]R, domain.Position, error)) (*ListAnswer[R], error) {
	reads, err := s.reads(ctx, c, "")
	if err != nil {
		return nil, err
	}
	rows, at, err := read(reads)
	if err != nil {
		return nil, err
	}
	return &ListAnswer[R]{Shown: shown(reads, at), Body: List[R]{Items: rows, Position: at}}, nil
}

func viewAnswer[R any](reads *readmodels.Store, view R, at domain.Position, err error) (*View[R], error) {
	if err != nil {
		return nil, err
	}
	return &View[R]{Shown: shown(reads, at), Body: view}, nil
}

func parsePipeline(text string) (domain.ID, error) {
	id, err := domain.ParseID(text)
	if err != nil {
		return "", domain.Invalid("pipelineId", "is not a UUID")
	}
	return id, nil
}

// parsePhone reads a number in E.164. In a query string an unescaped plus sign arrives as a blank.
func parsePhone(text string) (string, error) {
	phone := "+" + strings.TrimLeft(text, " +")
	if !domain.IsE164(phone) {
		return "", domain.Invalid("phone", "is not a telephone number in E.164, such as +493012345678")
	}
	return phone, nil
}
