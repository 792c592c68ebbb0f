// Package opportunity decides what may happen to a chance to sell, from opening to won or lost and back.
//
// An opportunity is in one stage at a time while it is open. Every stay in a stage is a visit with a number of its own,
// so that re-entries, skipped stages and moves back can be counted exactly. A closing ends the current visit; reopening
// begins another. Stages are checked against the pipeline as it stands at the time; the event pins its version.
package opportunity

import (
	"fmt"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Status says whether an opportunity is worked on or how it ended.
type Status string

// The statuses of an opportunity. The zero value is that of one that was not opened yet.
const (
	StatusOpen Status = "open"
	StatusWon  Status = "won"
	StatusLost Status = "lost"
)

// Labels implements domain.Labelled.
func (Status) Labels() domain.Labels { return statusLabels }

var statusLabels = domain.Labels{
	string(StatusOpen): {En: "open", Zh: "进行中"},
	string(StatusWon):  {En: "won", Zh: "赢单"},
	string(StatusLost): {En: "lost", Zh: "丢单"},
}

// Role is the part that a contact plays in an opportunity.
type Role string

// Labels implements domain.Labelled.
func (Role) Labels() domain.Labels { return roleLabels }

var roleLabels = domain.Labels{
	"decider":    {En: "decider", Zh: "决策者"},
	"influencer": {En: "influencer", Zh: "影响者"},
	"user":       {En: "user", Zh: "使用者"},
	"buyer":      {En: "buyer", Zh: "采购者"},
	"champion":   {En: "champion", Zh: "支持者"},
	"other":      {En: "other", Zh: "其他角色"},
}

// LossReason says why an opportunity was lost.
type LossReason string

// Labels implements domain.Labelled.
func (LossReason) Labels() domain.Labels { return lossLabels }

var lossLabels = domain.Labels{
	"price":       {En: "price", Zh: "价格"},
	"competitor":  {En: "competitor", Zh: "竞争对手"},
	"product-fit": {En: "product fit", Zh: "产品不合适"},
	"timing":      {En: "timing", Zh: "时机"},
	"no-budget":   {En: "no budget", Zh: "没有预算"},
	"no-decision": {En: "no decision", Zh: "没有决定"},
	"no-contact":  {En: "no contact", Zh: "失去联系"},
	"other":       {En: "other", Zh: "其他原因"},
	"unknown":     {En: "unknown", Zh: "原因不明"},
}

// Opportunity is what the rules below need to know of one opportunity. The zero value has not been opened yet.
type Opportunity struct {
	Status        Status
	Details       Details // but the region, which is in Standing
	Standing      Standing
	Stage         string        // it is in, or was closed in
	Visit         int           // number of the newest visit
	Amount        *domain.Money // estimated, or won; nil when nobody estimated
	ExpectedClose domain.Date
	Score         *int // nil before the first
	ScoreReason   string
	Lines         []Line // never changed in place
	LastLine      int    // the highest number given
	Stakeholders  []Stakeholder
	Loss          Lost // the last one
}

// MaxStakeholders is how many contacts have a say in an opportunity at a time.
const MaxStakeholders = 200

// Stakeholder is a contact that has a say.
type Stakeholder struct {
	ContactID domain.ID
	Role      Role
}

// Aggregate declares the opportunity.
var Aggregate = domain.Aggregate[Opportunity]{
	Name:     "opportunity",
	Plural:   "opportunities",
	Doc:      "A chance to sell something to a customer, on its way through a pipeline.",
	Decider:  domain.Decider[Opportunity]{Decide: decide, Evolve: evolve},
	Events:   events,
	Commands: commands,
	Exists:   func(o Opportunity) bool { return o.Status != "" },
	Subjects: subjects,
}

func subjects(_ domain.ID, o Opportunity) []domain.ID {
	if o.Standing.CustomerID == "" {
		return nil
	}
	return []domain.ID{o.Standing.CustomerID}
}

func decide(o Opportunity, cmd domain.Command, _ domain.Facts) ([]domain.Event, error) {
	switch c := cmd.(type) {
	case Open:
		return open(o, c)
	case Win:
		return win(o, c)
	case Lose:
		return lose(o, c)
	case Reopen:
		return reopen(o, c)
	case LinkCustomer:
		return linkCustomer(o, c)
	case AddStakeholder:
		return addStakeholder(o, c)
	case RemoveStakeholder:
		return removeStakeholder(o, c)
	}
	return decideOpen(o, cmd)
}

// decideOpen decides the commands that only an open opportunity accepts.
func decideOpen(o Opportunity, cmd domain.Command) ([]domain.Event, error) {
	if o.Status != StatusOpen {
		return nil, notOpen(o)
	}
	switch c := cmd.(type) {
	case Update:
		return update(o, c)
	case Qualify:
		return qualify(o, c)
	case MoveStage:
		return moveStage(o, c)
	case ReEstimate:
		return reEstimate(o, c)
	case Reschedule:
		if c.ExpectedClose == o.ExpectedClose {
			return nil, nil
		}
		return []domain.Event{Rescheduled{From: o.ExpectedClose, To: c.ExpectedClose, Reason: c.Reason}}, nil
	case AddLine:
		return addLine(o, c)
	case ChangeLine:
		return changeLine(o, c)
	case RemoveLine:
		return removeLine(o, c)
	case Assign:
		return assign(o, c)
	}
	return nil, fmt.Errorf("opportunity: no decision for command %T", cmd)
}

func notOpen(o Opportunity) error {
	return domain.Reject("opportunity-not-open", "the opportunity is {status}; reopen it first", o.Status)
}

func open(o Opportunity, c Open) ([]domain.Event, error) {
	switch {
	case o.Status != "":
		return nil, domain.Reject("opportunity-exists", "the opportunity was opened before")
	case c.Pipeline.Version == 0 || c.PipelineID != "" && c.PipelineID != c.Pipeline.ID:
		return nil, fmt.Errorf("opportunity: opened in pipeline %q with the facts of %q", c.PipelineID, c.Pipeline.ID)
	case c.Pipeline.Retired:
		return nil, domain.Reject("pipeline-retired", "the pipeline takes no new opportunities").At("/pipelineId")
	}
	if err := notNegative(c.Amount); err != nil {
		return nil, err
	}
	stage := c.Pipeline.Stages[0]
	if c.Stage != "" {
		var err error
		if stage, err = c.Pipeline.stage(c.Stage); err != nil {
			return nil, err
		}
	}
	lines, err := openingLines(c.Lines)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Opened{
		Name: c.Name,
		Standing: Standing{
			CustomerID: c.CustomerID, Owner: c.Owner, Region: c.Region,
			PipelineID: c.Pipeline.ID, PipelineVersion: c.Pipeline.Version,
		},
		Stage: stage.Key, Visit: 1, Probability: stage.Probability,
		Source: c.Source, ExternalID: c.ExternalID, Amount: c.Amount, ExpectedClose: c.ExpectedClose, Lines: lines,
	}}, nil
}

func notNegative(amount *domain.Money) error {
	if amount != nil && amount.Amount.IsNegative() {
		return domain.Invalid("/amount/amount", "the value of an opportunity is 0 or more")
	}
	return nil
}

func update(o Opportunity, c Update) ([]domain.Event, error) {
	from := o.details()
	to := from
	for _, field := range []struct{ to, value *string }{{&to.Name, c.Name}, {&to.Region, c.Region}, {&to.Source, c.Source}} {
		if field.value != nil {
			*field.to = *field.value
		}
	}
	if to == from {
		return nil, nil
	}
	return []domain.Event{Updated{From: from, To: to}}, nil
}

func (o Opportunity) details() Details {
	d := o.Details
	d.Region = o.Standing.Region
	return d
}

func qualify(o Opportunity, c Qualify) ([]domain.Event, error) {
	if o.Score != nil && *o.Score == c.Score && o.ScoreReason == c.Reason {
		return nil, nil
	}
	return []domain.Event{Qualified{From: o.Score, Score: c.Score, Reason: c.Reason}}, nil
}

func reEstimate(o Opportunity, c ReEstimate) ([]domain.Event, error) {
	if err := notNegative(&c.Amount); err != nil {
		return nil, err
	}
	if o.Amount != nil && o.Amount.Equal(c.Amount) {
		return nil, nil
	}
	return []domain.Event{ReEstimated{From: o.Amount, To: c.Amount, Reason: c.Reason, Standing: o.Standing}}, nil
}

func assign(o Opportunity, c Assign) ([]domain.Event, error) {
	if c.Owner == o.Standing.Owner {
		return nil, nil
	}
	after := o.Standing
	after.Owner = c.Owner
	return []domain.Event{Assigned{From: o.Standing.Owner, To: c.Owner, Reason: c.Reason, Standing: after, Amount: o.Amount}}, nil
}

func linkCustomer(o Opportunity, c LinkCustomer) ([]domain.Event, error) {
	if c.CustomerID == o.Standing.CustomerID {
		return nil, nil
	}
	after := o.Standing
	after.CustomerID = c.CustomerID
	return []domain.Event{CustomerLinked{
		From: o.Standing.CustomerID, To: c.CustomerID, Status: o.Status, Standing: after, Amount: o.Amount,
	}}, nil
}

func addStakeholder(o Opportunity, c AddStakeholder) ([]domain.Event, error) {
	former := o.role(c.ContactID)
	switch {
	case former == c.Role:
		return nil, nil
	case former == "" && len(o.Stakeholders) >= MaxStakeholders:
		return nil, domain.Reject("too-many-stakeholders", "an opportunity has at most {limit} stakeholders", MaxStakeholders)
	}
	return []domain.Event{StakeholderAdded{ContactID: c.ContactID, Role: c.Role, From: former}}, nil
}

func removeStakeholder(o Opportunity, c RemoveStakeholder) ([]domain.Event, error) {
	role := o.role(c.ContactID)
	if role == "" {
		return nil, nil
	}
	return []domain.Event{StakeholderRemoved{ContactID: c.ContactID, Role: role}}, nil
}

// role returns the part that a contact plays, empty when it is no stakeholder.
func (o Opportunity) role(contact domain.ID) Role {
	for _, s := range o.Stakeholders {
		if s.ContactID == contact {
			return s.Role
		}
	}
	return ""
}

func evolve(o Opportunity, e domain.Event) Opportunity {
	switch e := e.(type) {
	case Opened:
		o.Status, o.Standing, o.Stage, o.Visit = StatusOpen, e.Standing, e.Stage, e.Visit
		o.Details = Details{Name: e.Name, Source: e.Source}
		o.Amount, o.ExpectedClose = e.Amount, e.ExpectedClose
		o.Lines, o.LastLine = e.Lines, len(e.Lines)
	case Updated:
		o.Details = Details{Name: e.To.Name, Source: e.To.Source}
		o.Standing.Region = e.To.Region
	case Qualified:
		o.Score, o.ScoreReason = &e.Score, e.Reason
	case StageMoved:
		o.Standing, o.Stage, o.Visit = e.Standing, e.To, e.ToVisit
	case ReEstimated:
		o.Amount = &e.To
	case Rescheduled:
		o.ExpectedClose = e.To
	case LineAdded:
		o.Lines, o.LastLine = append(slices.Clip(o.Lines), e.Line), e.Number
	case LineChanged:
		o.Lines = replaceLine(o.Lines, e.To)
	case LineRemoved:
		o.Lines = withoutLine(o.Lines, e.Number)
	case StakeholderAdded:
		o.Stakeholders = append(withoutContact(o.Stakeholders, e.ContactID), Stakeholder{ContactID: e.ContactID, Role: e.Role})
	case StakeholderRemoved:
		o.Stakeholders = withoutContact(o.Stakeholders, e.ContactID)
	case Assigned:
		o.Standing = e.Standing
	case CustomerLinked:
		o.Standing = e.Standing
	case Won:
		o.Status, o.Amount = StatusWon, &e.Amount
	case Lost:
		o.Status, o.Loss = StatusLost, e
	case Reopened:
		o.Status, o.Standing, o.Stage, o.Visit = StatusOpen, e.Standing, e.Stage, e.Visit
	}
	return o
}

// withoutContact returns a fresh list without the contact.
func withoutContact(list []Stakeholder, contact domain.ID) []Stakeholder {
	return slices.DeleteFunc(slices.Clone(list), func(s Stakeholder) bool { return s.ContactID == contact })
}
