package sales

import (
	"context"
	"fmt"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/commands/party"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/contact"
	"github.com/rapport-crm/rapport/domain/sales/opportunity"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/domain/sales/product"
)

var opportunityRules = []commands.Rule{
	commands.Prepare(prepareOpen),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, req commands.Request, c opportunity.MoveStage) (opportunity.MoveStage, error) {
		var err error
		c.Pipeline, err = ownPipeline(ctx, l, req.Target)
		return c, err
	}),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, req commands.Request, c opportunity.Reopen) (opportunity.Reopen, error) {
		var err error
		c.Pipeline, err = ownPipeline(ctx, l, req.Target)
		return c, err
	}),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c opportunity.LinkCustomer) (opportunity.LinkCustomer, error) {
		return c, party.Usable(ctx, l, c.CustomerID, "/customerId")
	}),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c opportunity.AddStakeholder) (opportunity.AddStakeholder, error) {
		return c, l.MustExist(ctx, contact.Aggregate.Name, c.ContactID, "/contactId")
	}),
	commands.Prepare(func(ctx context.Context, l *commands.Loader, _ commands.Request, c opportunity.AddLine) (opportunity.AddLine, error) {
		if c.ProductID == "" {
			return c, nil
		}
		return c, l.MustExist(ctx, product.Aggregate.Name, c.ProductID, "/productId")
	}),
}

func prepareOpen(ctx context.Context, l *commands.Loader, _ commands.Request, c opportunity.Open) (opportunity.Open, error) {
	if c.PipelineID == "" {
		c.PipelineID = pipeline.DefaultID
	}
	var err error
	if c.Pipeline, err = pipelineFacts(ctx, l, c.PipelineID); err != nil {
		return c, err
	}
	if c.CustomerID != "" {
		if err := party.Usable(ctx, l, c.CustomerID, "/customerId"); err != nil {
			return c, err
		}
	}
	for i, line := range c.Lines {
		if line.ProductID == "" {
			continue
		}
		if err := l.MustExist(ctx, product.Aggregate.Name, line.ProductID, fmt.Sprintf("/lines/%d/productId", i)); err != nil {
			return c, err
		}
	}
	return c, nil
}

// ownPipeline returns the newest version of the pipeline that the opportunity is in.
func ownPipeline(ctx context.Context, l *commands.Loader, id domain.ID) (opportunity.PipelineFacts, error) {
	o, _, err := commands.Load(ctx, l, opportunity.Aggregate, id)
	if err != nil {
		return opportunity.PipelineFacts{}, err
	}
	return pipelineFacts(ctx, l, o.Standing.PipelineID)
}

func pipelineFacts(ctx context.Context, l *commands.Loader, id domain.ID) (opportunity.PipelineFacts, error) {
	p, ok, err := commands.Load(ctx, l, pipeline.Aggregate, id)
	if err != nil {
		return opportunity.PipelineFacts{}, err
	}
	if !ok && id == pipeline.DefaultID { // a tenant that was never primed
		p, ok = pipeline.DefaultState(), true
	}
	if !ok {
		return opportunity.PipelineFacts{}, domain.Reject("pipeline-unknown", "there is no pipeline {pipelineId}", id).At("/pipelineId")
	}
	facts := opportunity.PipelineFacts{ID: id, Version: p.Version, Retired: p.Retired}
	for _, s := range p.Stages {
		facts.Stages = append(facts.Stages, opportunity.StageFacts{Key: s.Key, Probability: s.Probability})
	}
	return facts, nil
}
