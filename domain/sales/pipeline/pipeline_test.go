package pipeline

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

func given(events ...domain.Event) domaintest.Scenario[Pipeline] {
	return domaintest.Given(Aggregate.Decider, events...)
}

func stages(keys ...string) []Stage {
	list := make([]Stage, len(keys))
	for i, key := range keys {
		list[i] = Stage{Key: key, Name: "Stage " + key, Probability: 10 * (i + 1)}
	}
	return list
}

var defined = Defined{Name: "Sales", Version: 1, Stages: stages("q", "p", "n")}

func TestSpecs(t *testing.T) { domaintest.Specs(t, Aggregate.Definition()) }

func TestEvents(t *testing.T) { codectest.Golden(t, Aggregate.Definition(), "testdata/events") }

func TestDefineStartsWithVersionOne(t *testing.T) {
	c := Define{Name: "Sales", Stages: stages("q", "p", "n")}
	given().When(c).Then(t, defined)
	given(defined).When(c).Rejected(t, "pipeline-exists")
}

func TestStageKeysDiffer(t *testing.T) {
	given().When(Define{Name: "Sales", Stages: stages("q", "p", "q")}).Invalid(t, "/stages/2/key")
	given(defined).When(Revise{Stages: stages("q", "q")}).Invalid(t, "/stages/1/key")
}

func TestWonAndLostAreNotStages(t *testing.T) {
	given().When(Define{Name: "Sales", Stages: stages("q", "won")}).Invalid(t, "/stages/1/key")
	given(defined).When(Revise{Stages: stages("lost")}).Invalid(t, "/stages/0/key")
}

func TestReviseCarriesTheWholeVersionAndWhereEveryStageWent(t *testing.T) {
	given(defined).
		When(Revise{Name: new("Sales 2"), Stages: stages("q", "offer"), Mapping: []Mapping{{From: "p", To: "offer"}}}).
		Then(t, Revised{
			Name: "Sales 2", Version: 2, Stages: stages("q", "offer"),
			Mapping: []Mapping{{From: "q", To: "q"}, {From: "p", To: "offer"}, {From: "n"}},
		})
}

func TestAStageCanBeDroppedExplicitlyEvenWhenItsKeyIsUsedAgain(t *testing.T) {
	given(defined).
		When(Revise{Stages: stages("n", "p", "q"), Mapping: []Mapping{{From: "n"}}}).
		Then(t, Revised{
			Name: "Sales", Version: 2, Stages: stages("n", "p", "q"),
			Mapping: []Mapping{{From: "q", To: "q"}, {From: "p", To: "p"}, {From: "n"}},
		})
}

func TestRenamingAStageKeepsItsKey(t *testing.T) {
	renamed := stages("q", "p", "n")
	renamed[1].Name = "Quotation"
	d := given(defined).When(Revise{Stages: renamed})
	d.Then(t, Revised{
		Name: "Sales", Version: 2, Stages: renamed,
		Mapping: []Mapping{{From: "q", To: "q"}, {From: "p", To: "p"}, {From: "n", To: "n"}},
	})
	if d.State.Stages[1].Name != "Quotation" || d.State.Version != 2 {
		t.Errorf("after the revision: %+v", d.State)
	}
}

func TestReviseToTheSameChangesNothing(t *testing.T) {
	given(defined).When(Revise{Stages: stages("q", "p", "n")}).Then(t)
	given(defined).When(Revise{Name: new("Sales"), Stages: stages("q", "p", "n"), Mapping: []Mapping{{From: "q", To: "q"}}}).Then(t)
}

func TestAMappingNamesStagesOfBothVersions(t *testing.T) {
	given(defined).When(Revise{Stages: stages("q"), Mapping: []Mapping{{From: "x", To: "q"}}}).Invalid(t, "/mapping/0/from")
	given(defined).When(Revise{Stages: stages("q"), Mapping: []Mapping{{From: "p", To: "n"}}}).Invalid(t, "/mapping/0/to")
	given(defined).When(Revise{Stages: stages("q"), Mapping: []Mapping{{From: "p", To: "q"}, {From: "p"}}}).Invalid(t, "/mapping/1/from")
}

func TestARetiredPipelineDoesNotChange(t *testing.T) {
	retired := Retired{Name: "Sales", Version: 1}
	given(defined).When(Retire{}).Then(t, retired)
	given(defined, retired).When(Retire{}).Then(t)
	given(defined, retired).When(Revise{Stages: stages("q")}).Rejected(t, "pipeline-retired")
}

func TestTheDefaultPipelineIsAcceptedAsItIs(t *testing.T) {
	if _, err := domain.ParseID(string(DefaultID)); err != nil {
		t.Error(err)
	}
	d := given().Of(DefaultID).When(Default())
	d.Accepted(t)
	if diff := cmp.Diff(DefaultState(), d.State); diff != "" {
		t.Error(diff)
	}
	for _, key := range []string{"prospecting", "engaging"} {
		if !hasStage(d.State.Stages, key) {
			t.Errorf("the default pipeline has no stage %s", key)
		}
	}
}

func TestExamplesAreAccepted(t *testing.T) {
	for _, spec := range Aggregate.Commands {
		scenario := given(Defined{Name: "Sales", Version: 1, Stages: stages("needs", "proposal", "negotiation")})
		if spec.Creates {
			scenario = given()
		}
		scenario.When(spec.Example).Accepted(t)
	}
}

func TestOtherCommandsAreABug(t *testing.T) {
	if _, err := decide(Pipeline{}, nil, domain.Facts{}); err == nil {
		t.Error("a foreign command was decided")
	}
}

// Versions count up by one, and every mapping covers exactly the stages of the version before and leads only to stages of
// the new one.
func TestEveryVersionIsReachedFromTheOneBefore(t *testing.T) {
	key := rapid.SampledFrom([]string{"a", "b", "c", "d", "lost"})
	rapid.Check(t, func(t *rapid.T) {
		p := evolve(Pipeline{}, defined)
		for range rapid.IntRange(1, 20).Draw(t, "revisions") {
			c := Revise{Stages: stages(rapid.SliceOfN(key, 1, 4).Draw(t, "stages")...)}
			for range rapid.IntRange(0, 2).Draw(t, "mappings") {
				c.Mapping = append(c.Mapping, Mapping{From: key.Draw(t, "from"), To: key.Draw(t, "to")})
			}
			events, err := decide(p, c, domain.Facts{})
			if err != nil {
				continue
			}
			for _, e := range events {
				if err := follows(p, e.(Revised)); err != nil {
					t.Fatal(err)
				}
				p = evolve(p, e)
			}
		}
	})
}

func follows(p Pipeline, e Revised) error {
	if e.Version != p.Version+1 || len(e.Mapping) != len(p.Stages) {
		return fmt.Errorf("version %d with %d mappings follows %+v", e.Version, len(e.Mapping), p)
	}
	for i, m := range e.Mapping {
		if m.From != p.Stages[i].Key || m.To != "" && !hasStage(e.Stages, m.To) {
			return fmt.Errorf("mapping %+v from %+v to %+v", m, p.Stages, e.Stages)
		}
	}
	return nil
}
