package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rapport-crm/rapport/internal/eventlog"
)

type logGrant struct {
	EventStore string `name:"eventstore" help:"Connection string of the EventStoreDB with an administrator's name and password, esdb://…" required:"" placeholder:"URL"`
	Who        string `arg:"" help:"User, or group of users, that may read $$all from then on."`
}

// Help shows an example.
func (logGrant) Help() string {
	return "Example: rapport log grant rapport --eventstore 'esdb://admin:PASSWORD@node1.example:2113'\n\n" +
		"A user that is no administrator needs this right, and the one to write ordinary streams, which every user has unless somebody has taken it."
}

// Run writes the right into the metadata of $all, which keeps what else stands there.
func (g logGrant) Run(ctx context.Context, c *console) (err error) {
	client, err := eventlog.Dial(ctx, g.EventStore)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	changed, err := client.GrantReading(ctx, g.Who)
	if err != nil {
		return err
	}
	if !changed {
		fmt.Fprintf(c.out, "%s may read $all already\n", g.Who)
		return nil
	}
	fmt.Fprintf(c.out, "%s may read $all now\n", g.Who)
	return nil
}
