package main

import (
	"context"
	"embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/sales/pipeline"
	"github.com/rapport-crm/rapport/internal/importer"
	"github.com/rapport-crm/rapport/readmodels/party"
	"github.com/rapport-crm/rapport/readmodels/query"
	"github.com/rapport-crm/rapport/readmodels/sales"
)

// sample is an invented company's half year: its files and its mapping.
//
//go:embed sample
var sample embed.FS

// importSample imports the sample when the log holds no business event.
func importSample(ctx context.Context, c *console, l *log, bus *commands.Bus, tenant domain.Tenant) error {
	for _, err := range l.Store.ReadAll(ctx, domain.Position{}) {
		return err // there is an event, or the log does not answer
	}
	if err := bus.Prime(ctx, tenant); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rapport-sample-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, sample); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "sample", "*.csv"))
	if err != nil {
		return err
	}
	file, err := sample.Open("sample/sample.yaml")
	if err != nil {
		return err
	}
	defer file.Close()
	mapping, err := importer.ParseMapping(file)
	if err != nil {
		return err
	}
	actor := domain.Actor{ID: "import:" + mapping.Source, Kind: domain.ActorIntegration}
	plan, err := importer.Compile(mapping, files, bus.Definitions(), func(key, aggregate string) domain.ID {
		return bus.ID(tenant, actor, key, aggregate)
	})
	if err != nil {
		return err
	}
	result, err := plan.Run(ctx, importer.Options{Submit: submitTo(bus, domain.Caller{Tenant: tenant, Actor: actor}), Rejects: c.err})
	if err == nil && rejected(result) > 0 {
		err = fmt.Errorf("the sample does not import: %+v", result.Inputs)
	}
	return err
}

// firstAnswer prints a funnel and one customer, as tables.
func firstAnswer(ctx context.Context, out io.Writer, reads *query.Store, now time.Time, address string) error {
	funnel, err := sales.ReadFunnel(ctx, reads, sales.FunnelQuery{PipelineID: pipeline.DefaultID, Mode: sales.ModeReached}, now)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\nFunnel of pipeline %s, all opportunities, mode %s, at log position %s\n\n", funnel.Definition.PipelineName, funnel.Definition.Mode, funnel.Position)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "stage\treached\tof the stage before\t")
	for _, s := range funnel.Stages {
		fmt.Fprintf(w, "%s\t%d\t%s\t\n", s.Stage, s.Count, percent(s.Step.Rate))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nwin rate %s (%d of %d closed)\n", percent(funnel.WinRate.ByCount.Rate), funnel.WinRate.ByCount.Count, funnel.WinRate.ByCount.Of)

	page, err := sales.SalesByCustomer.List(ctx, reads, query.Query{Sort: "-net", Limit: 1})
	if err != nil || len(page.Items) == 0 {
		return err
	}
	view, _, err := party.Read360(ctx, reads, page.Items[0].CustomerID, now)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "\n360° view of %s  http://%s/v1/customers/%s/360\n\n", view.Profile.Name, address, view.Profile.ID)
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	row("owner", "%s", view.Profile.Owner)
	row("contacts", "%d", len(view.Contacts))
	for _, v := range view.LifetimeValue {
		row("lifetime value", "%s %s in %d orders", v.Net, v.Currency, v.Orders)
	}
	row("opportunities", "%d open, %d won, %d lost", len(view.OpenOpportunities), len(view.WonOpportunities), view.LostOpportunities)
	row("open commitments", "%d, %d overdue", len(view.OpenCommitments), view.OverdueCommitments)
	row("interactions", "%d", view.InteractionCount)
	if view.LastContact != nil {
		row("last contact", "%s", view.LastContact.Format(time.DateOnly))
	}
	row("history", "http://%s/v1/customers/%s/history", address, view.Profile.ID)
	return w.Flush()
}

func percent(share *float64) string {
	if share == nil {
		return ""
	}
	return fmt.Sprintf("%.1f %%", 100**share)
}
