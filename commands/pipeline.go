package commands

import (
	"context"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
)

func registerPipeline(b *Bus) { Register(b, pipeline.Aggregate) }

// systemActor is who does what nobody asked for.
var systemActor = domain.Actor{ID: "rapport", Kind: domain.ActorAutomation}

// Prime writes what a tenant needs before its first command: the default pipeline. Doing it again changes nothing.
func (b *Bus) Prime(ctx context.Context, tenant domain.Tenant) error {
	_, err := b.Submit(ctx, Request{
		Tenant: tenant, Actor: systemActor, Key: pipeline.DefaultKey, Command: pipeline.Default(), wanted: pipeline.DefaultID,
	})
	return err
}
