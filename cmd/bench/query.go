package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
)

// manyClients is the larger number of clients of part e.
const manyClients = 16

// sampledCustomers is how many customers part e asks for, those who bought most and others.
const sampledCustomers = 200

// customers returns ids of customers of the loaded server.
func (s *server) customers() ([]domain.ID, error) {
	c, err := s.dial()
	if err != nil {
		return nil, err
	}
	defer c.conn.Close()
	text, err := c.get(fmt.Sprintf("/v1/customers?limit=%d", sampledCustomers))
	if err != nil {
		return nil, err
	}
	var page struct {
		Items []struct {
			ID domain.ID `json:"id"`
		} `json:"items"`
	}
	if err := json.Unmarshal(text, &page); err != nil {
		return nil, err
	}
	ids := make([]domain.ID, len(page.Items))
	for i, item := range page.Items {
		ids[i] = item.ID
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("the server has no customers")
	}
	return ids, nil
}

func (b *bench) queries(ctx context.Context) error {
	l, err := b.load(ctx)
	if err != nil {
		return err
	}
	ids, err := l.customers()
	if err != nil {
		return err
	}
	someone := func(rest string) func() string {
		return func() string { return "/v1/customers/" + string(ids[rand.IntN(len(ids))]) + rest }
	}
	always := func(path string) func() string { return func() string { return path } }
	t := table{head: []string{"", "per second", "p50", "p99", fmt.Sprintf("per second, %d clients", manyClients), "p50", "p99", "ratio of rates"}}
	for _, q := range []struct {
		name string
		path func() string
	}{
		{"one customer", someone("")},
		{"360° view", someone("/360")},
		{"timeline of 50", someone("/timeline?limit=50")},
		{"list of 50 customers, by name", always("/v1/customers?limit=50&sort=name")},
		{"list of 50 orders, newest first", always("/v1/orders?limit=50&sort=-placedAt")},
		{"funnel", always("/v1/funnel?pipelineId=" + string(pipeline.DefaultID))},
	} {
		one, err := l.ask(ctx, 1, b.query, q.path)
		if err != nil {
			return err
		}
		many, err := l.ask(ctx, manyClients, b.query, q.path)
		if err != nil {
			return err
		}
		t.add(q.name, rate(one.rate()), millis(one.quantile(.5)), millis(one.quantile(.99)),
			rate(many.rate()), millis(many.quantile(.5)), millis(many.quantile(.99)), fmt.Sprintf("%.1f", many.rate()/one.rate()))
	}
	t.print(b.out)
	fmt.Fprintf(b.out, "\nOver HTTP with keep-alive, on the imported data; customers are drawn from %d.\n", len(ids))
	return nil
}

// ask has clients ask back to back.
func (s *server) ask(ctx context.Context, clients int, d time.Duration, path func() string) (load, error) {
	connections, err := s.dialAll(clients)
	if err != nil {
		return load{}, err
	}
	defer closeAll(connections)
	return closedLoop(ctx, clients, d, func(_ context.Context, w int) error {
		_, err := connections[w].get(path())
		return err
	})
}
