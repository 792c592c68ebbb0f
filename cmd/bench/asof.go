package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rapport-crm/rapport/domain/sales/pipeline"
)

// coldMoments is how many moments of the past the funnel is asked for that nobody has asked for before.
const coldMoments = 3

// asOf asks for the past, and for the same of now.
func (b *bench) asOf(ctx context.Context) error {
	a, err := b.aged(ctx)
	if err != nil {
		return err
	}
	t := table{head: []string{"", "calls", "p50", "p99", "ratio of p50"}}
	line := func(name string, l, now load) {
		t.add(name, grouped(int64(len(l.latencies))), millis(l.quantile(.5)), millis(l.quantile(.99)), fmt.Sprintf("%.1f", float64(l.quantile(.5))/float64(max(now.quantile(.5), 1))))
	}
	ask := func(path string, d time.Duration) (load, error) {
		return a.ask(ctx, 1, d, func() string { return path })
	}
	once := func(path string) (load, error) { return a.first(ctx, path) }
	record := "/v1/customers/" + string(a.record)
	then := "asOf=" + a.head.String()
	now, err := ask(record, b.query)
	if err != nil {
		return err
	}
	past, err := ask(record+"?"+then, b.query)
	if err != nil {
		return err
	}
	restated, err := ask(record+"?axis=occurred&asOf="+time.Now().UTC().Format(time.RFC3339), b.query)
	if err != nil {
		return err
	}
	line("customer, now", now, now)
	line(fmt.Sprintf("customer of %s events, as recorded", grouped(recordEvents)), past, now)
	line("the same, as occurred", restated, now)

	funnel := "/v1/funnel?pipelineId=" + string(pipeline.DefaultID)
	if now, err = ask(funnel, b.query); err != nil {
		return err
	}
	var cold load
	for _, moment := range a.moments {
		l, err := once(funnel + "&asOf=" + moment.String())
		if err != nil {
			return err
		}
		cold = cold.join(l)
	}
	first, err := once(funnel + "&" + then)
	if err != nil {
		return err
	}
	warm, err := ask(funnel+"&"+then, b.query)
	if err != nil {
		return err
	}
	line("funnel, now", now, now)
	line("funnel, at moments not asked for before", cold, now)
	line(fmt.Sprintf("funnel of %s opportunities, first time", grouped(int64(a.opportunities))), first, now)
	line("the same again", warm, now)
	t.print(b.out)
	fmt.Fprintf(b.out, "\nOver HTTP from one client, on a log of %s events. An answer that takes longer than a request may is asked for until it comes.\n", grouped(int64(a.events)))
	return nil
}

// first asks for what has to be made first. A server that says that it is not ready yet is asked again.
func (s *server) first(ctx context.Context, path string) (load, error) {
	c, err := s.dial()
	if err != nil {
		return load{}, err
	}
	defer c.conn.Close()
	start := time.Now()
	for {
		_, err := c.get(path)
		took := time.Since(start)
		var status *statusError
		switch {
		case err == nil:
			return load{took: took, latencies: []time.Duration{took}}, nil
		case !errors.As(err, &status) || status.status != http.StatusServiceUnavailable || took > buildPatience:
			return load{}, err
		case ctx.Err() != nil:
			return load{}, ctx.Err()
		}
	}
}
