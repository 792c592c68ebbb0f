package opportunity

import (
	"fmt"

	"github.com/rapport-crm/rapport/domain"
)

// stage returns the stage with the key, or a *domain.Rejection that names the stages there are.
func (p PipelineFacts) stage(key string) (StageFacts, error) {
	keys := make([]string, len(p.Stages))
	for i, s := range p.Stages {
		if s.Key == key {
			return s, nil
		}
		keys[i] = s.Key
	}
	return StageFacts{}, domain.Reject("unknown-stage", "version {version} of the pipeline has no stage \"{stage}\"; it has {allowed}; win and lose close an opportunity",
		p.Version, key, keys).At("/stage")
}

// enter returns the stage with the key and the standing under the version of the pipeline that has it.
func (o Opportunity) enter(p PipelineFacts, key string) (StageFacts, Standing, error) {
	if p.ID != o.Standing.PipelineID {
		return StageFacts{}, Standing{}, fmt.Errorf("opportunity: in pipeline %s, with the facts of %q", o.Standing.PipelineID, p.ID)
	}
	stage, err := p.stage(key)
	after := o.Standing
	after.PipelineVersion = p.Version
	return stage, after, err
}

// moveStage allows any direction and any number of skipped stages: the funnel tells them apart afterwards.
func moveStage(o Opportunity, c MoveStage) ([]domain.Event, error) {
	if c.Stage == o.Stage {
		return nil, nil
	}
	stage, after, err := o.enter(c.Pipeline, c.Stage)
	if err != nil {
		return nil, err
	}
	return []domain.Event{StageMoved{
		From: o.Stage, To: stage.Key, FromVisit: o.Visit, ToVisit: o.Visit + 1, Probability: stage.Probability,
		Standing: after, Amount: o.Amount,
	}}, nil
}

func win(o Opportunity, c Win) ([]domain.Event, error) {
	if err := notNegative(c.Amount); err != nil {
		return nil, err
	}
	amount := c.Amount
	if amount == nil {
		amount = o.Amount
	}
	switch {
	case o.Status == StatusWon && amount.Equal(*o.Amount):
		return nil, nil
	case o.Status != StatusOpen:
		return nil, notOpen(o)
	case amount == nil:
		return nil, domain.Reject("opportunity-without-amount", "say what was won, or estimate it first").At("/amount")
	}
	return []domain.Event{Won{
		Stage: o.Stage, Visit: o.Visit, Standing: o.Standing, Amount: *amount, Estimate: o.Amount, Note: c.Note,
	}}, nil
}

func lose(o Opportunity, c Lose) ([]domain.Event, error) {
	switch {
	case o.Status == StatusLost && c.Reason == o.Loss.Reason && c.Competitor == o.Loss.Competitor && c.Note == o.Loss.Note:
		return nil, nil
	case o.Status != StatusOpen:
		return nil, notOpen(o)
	}
	return []domain.Event{Lost{
		Stage: o.Stage, Visit: o.Visit, Standing: o.Standing, Amount: o.Amount,
		Reason: c.Reason, Competitor: c.Competitor, Note: c.Note,
	}}, nil
}

func reopen(o Opportunity, c Reopen) ([]domain.Event, error) {
	key := c.Stage
	if key == "" {
		key = o.Stage
	}
	switch {
	case o.Status == StatusOpen && key == o.Stage:
		return nil, nil
	case o.Status == StatusOpen:
		return nil, domain.Reject("opportunity-open", "the opportunity is open; move it to another stage instead")
	}
	stage, after, err := o.enter(c.Pipeline, key)
	if err != nil {
		return nil, err
	}
	return []domain.Event{Reopened{
		From: o.Status, FromStage: o.Stage, FromVisit: o.Visit, Stage: stage.Key, Visit: o.Visit + 1,
		Probability: stage.Probability, Standing: after, Amount: o.Amount, Reason: c.Reason,
	}}, nil
}
