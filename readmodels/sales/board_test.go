package sales

import (
	"slices"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

func TestTheBoardFollowsTheMappingOfStages(t *testing.T) {
	amount := func(s string) domain.Amount { return domain.MustMoney(s, "EUR").Amount }
	p := PipelineDetail{
		Pipeline: Pipeline{Version: 2, Stages: []PipelineStage{{Key: "q", Name: "Qualified"}, {Key: "offer", Name: "Offer"}}},
		Versions: []PipelineVersion{{Version: 1}, {Version: 2, Mapping: []StageMapping{{"q", "q"}, {"quote", "offer"}}}},
	}
	board := boardOf(p, []boardTotal{
		{Stage: "offer", Version: 2, Currency: "EUR", Count: 1, Amount: amount("30.005"), Weighted: amount("15.0025")},
		{Stage: "old", Version: 1, Currency: "EUR", Count: 1, Amount: amount("1")},
		{Stage: "quote", Version: 1, Currency: "EUR", Count: 2, Amount: amount("50"), Weighted: amount("20")},
		{Stage: "quote", Version: 1, Currency: "USD", Count: 1, Amount: amount("7")},
	}, []Opportunity{
		{Name: "a", Stage: "quote", PipelineVersion: 1}, {Name: "b", Stage: "offer", PipelineVersion: 2}, {Name: "c", Stage: "old", PipelineVersion: 1},
	})
	var stages []string
	for _, c := range board.Columns {
		stages = append(stages, c.Stage)
	}
	if !slices.Equal(stages, []string{"q", "offer", "old"}) {
		t.Fatalf("columns %q", stages)
	}
	offer := board.Columns[1]
	if offer.Count != 4 || len(offer.Totals) != 2 || offer.Totals[0].Count != 3 || offer.Totals[0].Amount.String() != "80.005" || offer.Totals[0].Weighted.String() != "35.0025" {
		t.Errorf("totals %+v", offer)
	}
	if len(offer.Cards) != 2 || offer.Cards[0].Name != "a" || offer.Cards[1].Name != "b" || len(board.Columns[2].Cards) != 1 {
		t.Errorf("cards %+v", offer.Cards)
	}
}
