package sales

import (
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/projections/column"
	"github.com/rapport-crm/rapport/projections/projection"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// weighted is the amount of an open opportunity times its probability.
var weighted = []projection.Derived{{Name: "weighted", SQL: "trim_scale(amount * probability / 100)"}}

// Opportunity keeps each opportunity as it stands now.
var Opportunity = projection.Fold[projection.StreamKey, sales.Opportunity]{
	Name: "opportunity", Version: 2,
	Doc:     "Opportunities as they stand now.",
	Events:  []string{"opportunity."},
	Keys:    projection.ByStream,
	Begins:  projection.BeginsStream[projection.StreamKey],
	Evolve:  evolveOpportunity,
	Indexes: sales.Opportunities.Indexes,
	Derived: weighted,
}

func evolveOpportunity(r sales.Opportunity, _ projection.StreamKey, e domain.Recorded) sales.Opportunity {
	enter := func(stage string, visit, probability int, s opportunity.Standing) {
		r.Status, r.Stage, r.StageEnteredAt = sales.OpportunityOpen, stage, e.OccurredAt
		r.Visit, r.Probability = int64(visit), int64(probability)
		setStanding(&r, s)
	}
	switch ev := e.Event.(type) {
	case opportunity.Opened:
		enter(ev.Stage, ev.Visit, ev.Probability, ev.Standing)
		r.Name, r.Source, r.ExternalID = ev.Name, ev.Source, ev.ExternalID
		r.Amount, r.Currency = column.Amount(ev.Amount)
		r.ExpectedClose = column.Date(ev.ExpectedClose)
		for _, line := range ev.Lines {
			offer(&r, line.Total)
		}
		r.OpenedAt, r.OpenedRecordedAt = e.OccurredAt, e.RecordedAt
	case opportunity.Updated:
		r.Name, r.Region, r.Source = ev.To.Name, ev.To.Region, ev.To.Source
	case opportunity.Qualified:
		r.Score = new(int64(ev.Score))
	case opportunity.StageMoved:
		enter(ev.To, ev.ToVisit, ev.Probability, ev.Standing)
	case opportunity.ReEstimated:
		r.Amount, r.Currency = column.Amount(&ev.To)
		setStanding(&r, ev.Standing)
	case opportunity.Rescheduled:
		if ev.From != "" && ev.To > ev.From {
			r.Pushes++
		}
		r.ExpectedClose = column.Date(ev.To)
	case opportunity.LineAdded:
		offer(&r, ev.Total)
	case opportunity.LineChanged:
		offer(&r, column.Difference(ev.To.Total, ev.From.Total))
	case opportunity.LineRemoved:
		if offer(&r, column.Difference(domain.Amount{}, ev.Total)); ev.LinesTotal == nil && r.LinesTotal.IsZero() {
			r.LinesTotal = nil
		}
	case opportunity.Assigned:
		setStanding(&r, ev.Standing)
	case opportunity.CustomerLinked:
		setStanding(&r, ev.Standing)
	case opportunity.Won:
		setStanding(&r, ev.Standing)
		r.Status, r.Probability, r.ClosedAt = sales.OpportunityWon, 100, new(e.OccurredAt)
		r.Amount, r.Currency = column.Amount(&ev.Amount)
		r.CloseReason, r.Competitor, r.CloseNote = "", "", ev.Note
	case opportunity.Lost:
		setStanding(&r, ev.Standing)
		r.Status, r.Probability, r.ClosedAt = sales.OpportunityLost, 0, new(e.OccurredAt)
		r.CloseReason, r.Competitor, r.CloseNote = string(ev.Reason), ev.Competitor, ev.Note
	case opportunity.Reopened:
		enter(ev.Stage, ev.Visit, ev.Probability, ev.Standing)
		r.Amount, r.Currency = column.Amount(ev.Amount)
		r.ClosedAt, r.CloseReason, r.Competitor, r.CloseNote = nil, "", "", ""
		r.Reopened++
	}
	r.ChangedAt, r.Revision, r.Position = e.OccurredAt, int64(e.Revision), e.Position.Order()
	return r
}

// offer adds to the sum of the lines, as evolveOrder does to what is outstanding.
func offer(r *sales.Opportunity, more domain.Amount) {
	total := more
	if r.LinesTotal != nil {
		total = column.Sum(*r.LinesTotal, more)
	}
	r.LinesTotal = &total
}

func setStanding(r *sales.Opportunity, s opportunity.Standing) {
	r.CustomerID, r.Owner, r.Region = column.ID(s.CustomerID), s.Owner, s.Region
	r.PipelineID, r.PipelineVersion = s.PipelineID, int64(s.PipelineVersion)
}

type opportunityLineKey struct {
	Tenant        domain.Tenant `db:"tenant"`
	OpportunityID domain.ID     `db:"opportunity_id"`
	Line          int64         `db:"line"`
}

// OpportunityLine keeps what is offered now.
var OpportunityLine = projection.Fold[opportunityLineKey, sales.OpportunityLine]{
	Name: "opportunity_line", Version: 1,
	Doc:    "What opportunities offer now, line by line.",
	Events: []string{"opportunity.opened", "opportunity.line_added", "opportunity.line_changed", "opportunity.line_removed"},
	Keys: func(e domain.Recorded) []opportunityLineKey {
		lines, _ := offered(e.Event)
		keys := make([]opportunityLineKey, len(lines))
		for i, line := range lines {
			keys[i] = opportunityLineKey{e.Tenant, e.Stream.ID, int64(line.Number)}
		}
		return keys
	},
	Begins: projection.BeginsStream[opportunityLineKey],
	Evolve: func(r sales.OpportunityLine, k opportunityLineKey, e domain.Recorded) sales.OpportunityLine {
		lines, removed := offered(e.Event)
		for _, line := range lines {
			if int64(line.Number) != k.Line {
				continue
			}
			r.ProductCode, r.ProductID, r.Description = line.ProductCode, column.ID(line.ProductID), line.Description
			r.Quantity, r.UnitPrice, r.Total = line.Quantity, line.UnitPrice.Amount, line.Total
			r.Currency = string(line.UnitPrice.Currency)
		}
		r.Removed, r.Position = removed, e.Position.Order()
		return r
	},
	Gone:    func(r sales.OpportunityLine) bool { return r.Removed },
	Indexes: sales.OpportunityLines.Indexes,
}

// offered returns the lines that an event sets, and whether it takes them out.
func offered(e domain.Event) (lines []opportunity.Line, removed bool) {
	switch ev := e.(type) {
	case opportunity.Opened:
		return ev.Lines, false
	case opportunity.LineAdded:
		return []opportunity.Line{ev.Line}, false
	case opportunity.LineChanged:
		return []opportunity.Line{ev.To}, false
	case opportunity.LineRemoved:
		return []opportunity.Line{ev.Line}, true
	}
	return nil, false
}

type stakeholderKey struct {
	Tenant        domain.Tenant `db:"tenant"`
	OpportunityID domain.ID     `db:"opportunity_id"`
	ContactID     domain.ID     `db:"contact_id"`
}

// OpportunityStakeholder keeps who has, or had, a say in opportunities.
var OpportunityStakeholder = projection.Fold[stakeholderKey, sales.OpportunityStakeholder]{
	Name: "opportunity_stakeholder", Version: 1,
	Doc:    "Contacts that have, or had, a say in opportunities.",
	Events: []string{"opportunity.stakeholder_added", "opportunity.stakeholder_removed"},
	Keys: func(e domain.Recorded) []stakeholderKey {
		var contact domain.ID
		switch ev := e.Event.(type) {
		case opportunity.StakeholderAdded:
			contact = ev.ContactID
		case opportunity.StakeholderRemoved:
			contact = ev.ContactID
		}
		return []stakeholderKey{{e.Tenant, e.Stream.ID, contact}}
	},
	Evolve: func(r sales.OpportunityStakeholder, _ stakeholderKey, e domain.Recorded) sales.OpportunityStakeholder {
		switch ev := e.Event.(type) {
		case opportunity.StakeholderAdded:
			r.Role, r.Since, r.Until = string(ev.Role), e.OccurredAt, nil
		case opportunity.StakeholderRemoved:
			r.Role, r.Until = string(ev.Role), new(e.OccurredAt)
		}
		r.Position = e.Position.Order()
		return r
	},
	Indexes: sales.OpportunityStakeholders.Indexes,
}

type visitKey struct {
	Tenant        domain.Tenant `db:"tenant"`
	OpportunityID domain.ID     `db:"opportunity_id"`
	Visit         int64         `db:"visit"`
}

// OpportunityStageVisit keeps one row for each stay of an opportunity in a stage.
var OpportunityStageVisit = projection.Fold[visitKey, sales.StageVisit]{
	Name: "opportunity_stage_visit", Version: 1,
	Doc:    "Every stay of an opportunity in a stage, re-entries too, on both time axes.",
	Events: []string{"opportunity.opened", "opportunity.stage_moved", "opportunity.won", "opportunity.lost", "opportunity.reopened"},
	Keys: func(e domain.Recorded) []visitKey {
		key := func(visit int) visitKey { return visitKey{e.Tenant, e.Stream.ID, int64(visit)} }
		switch ev := e.Event.(type) {
		case opportunity.Opened:
			return []visitKey{key(ev.Visit)}
		case opportunity.StageMoved:
			return []visitKey{key(ev.FromVisit), key(ev.ToVisit)}
		case opportunity.Won:
			return []visitKey{key(ev.Visit)}
		case opportunity.Lost:
			return []visitKey{key(ev.Visit)}
		case opportunity.Reopened:
			return []visitKey{key(ev.Visit)}
		}
		return nil
	},
	Begins: func(k visitKey, e domain.Recorded) bool {
		switch ev := e.Event.(type) {
		case opportunity.Opened, opportunity.Reopened:
			return true
		case opportunity.StageMoved:
			return k.Visit == int64(ev.ToVisit)
		}
		return false
	},
	Evolve:  evolveVisit,
	Indexes: sales.StageVisits.Indexes,
	Derived: weighted,
}

func evolveVisit(r sales.StageVisit, k visitKey, e domain.Recorded) sales.StageVisit {
	enter := func(stage string, probability int, s opportunity.Standing, amount *domain.Money) {
		r.Stage, r.Probability = stage, int64(probability)
		r.CustomerID, r.Owner, r.Region = column.ID(s.CustomerID), s.Owner, s.Region
		r.PipelineID, r.PipelineVersion = s.PipelineID, int64(s.PipelineVersion)
		r.Amount, r.Currency = column.Amount(amount)
		r.EnteredAt, r.EnteredRecordedAt, r.EnteredRevision = e.OccurredAt, e.RecordedAt, int64(e.Revision)
	}
	leave := func(how, next string, amount *domain.Money) {
		r.LeftAt, r.LeftRecordedAt, r.LeftBy, r.NextStage = new(e.OccurredAt), new(e.RecordedAt), how, next
		r.ClosedAmount, r.ClosedCurrency = column.Amount(amount)
	}
	switch ev := e.Event.(type) {
	case opportunity.Opened:
		enter(ev.Stage, ev.Probability, ev.Standing, ev.Amount)
	case opportunity.StageMoved:
		if k.Visit == int64(ev.FromVisit) {
			leave(sales.LeftMoved, ev.To, nil)
		} else {
			enter(ev.To, ev.Probability, ev.Standing, ev.Amount)
		}
	case opportunity.Won:
		leave(sales.LeftWon, "", &ev.Amount)
	case opportunity.Lost:
		leave(sales.LeftLost, "", ev.Amount)
	case opportunity.Reopened:
		enter(ev.Stage, ev.Probability, ev.Standing, ev.Amount)
		r.Reopening = true
	}
	r.Position = e.Position.Order()
	return r
}

// OpportunityAmount keeps every value that opportunities were estimated or won at.
var OpportunityAmount = projection.Append[sales.OpportunityAmount]{
	Name: "opportunity_amount", Version: 1,
	Doc:    "Every value that opportunities were estimated or won at, from when on, on both time axes.",
	Events: []string{"opportunity.opened", "opportunity.re_estimated", "opportunity.won"},
	Rows: func(e domain.Recorded) []sales.OpportunityAmount {
		var amount *domain.Money
		switch ev := e.Event.(type) {
		case opportunity.Opened:
			amount = ev.Amount
		case opportunity.ReEstimated:
			amount = &ev.To
		case opportunity.Won:
			amount = &ev.Amount
		}
		if amount == nil {
			return nil
		}
		return []sales.OpportunityAmount{{
			Tenant: e.Tenant, OpportunityID: e.Stream.ID, Revision: int64(e.Revision), Amount: amount.Amount,
			Currency: string(amount.Currency), EventType: e.Type(), OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt,
			Position: e.Position.Order(),
		}}
	},
}
