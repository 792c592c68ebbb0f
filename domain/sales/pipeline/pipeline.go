// Package pipeline decides how the stages of a sales pipeline change. A pipeline is versioned: events about opportunities
// pin the version that they were decided under, so that renaming or removing a stage rewrites nothing.
//
// Stages are steps on the way. Won and lost are outcomes of an opportunity, not stages: every pipeline has both.
package pipeline

import (
	"fmt"
	"slices"

	"github.com/rapport-crm/rapport/domain"
)

// Pipeline is one pipeline in its newest version. The zero value has not been defined yet.
type Pipeline struct {
	Name    string
	Version int     // 1 for the first; 0 before
	Stages  []Stage // in order; never changed in place
	Retired bool
}

// Aggregate declares the pipeline.
var Aggregate = domain.Aggregate[Pipeline]{
	Name:     "pipeline",
	Plural:   "pipelines",
	Doc:      "A versioned list of the stages that opportunities go through.",
	Decider:  domain.Decider[Pipeline]{Decide: decide, Evolve: evolve},
	Events:   events,
	Commands: commands,
	Exists:   func(p Pipeline) bool { return p.Version > 0 },
}

func decide(p Pipeline, cmd domain.Command, _ domain.Facts) ([]domain.Event, error) {
	switch c := cmd.(type) {
	case Define:
		if p.Version > 0 {
			return nil, domain.Reject("pipeline-exists", "the pipeline was defined before")
		}
		if err := checkStages(c.Stages); err != nil {
			return nil, err
		}
		return []domain.Event{Defined{Name: c.Name, Version: 1, Stages: c.Stages}}, nil
	case Revise:
		return revise(p, c)
	case Retire:
		if p.Retired {
			return nil, nil
		}
		return []domain.Event{Retired{Name: p.Name, Version: p.Version}}, nil
	}
	return nil, fmt.Errorf("pipeline: no decision for command %T", cmd)
}

func revise(p Pipeline, c Revise) ([]domain.Event, error) {
	if p.Retired {
		return nil, domain.Reject("pipeline-retired", "a retired pipeline does not change")
	}
	if err := checkStages(c.Stages); err != nil {
		return nil, err
	}
	mapping, err := completeMapping(p.Stages, c.Stages, c.Mapping)
	if err != nil {
		return nil, err
	}
	name := p.Name
	if c.Name != nil {
		name = *c.Name
	}
	moved := slices.ContainsFunc(mapping, func(m Mapping) bool { return m.From != m.To })
	if name == p.Name && !moved && slices.Equal(c.Stages, p.Stages) {
		return nil, nil
	}
	return []domain.Event{Revised{Name: name, Version: p.Version + 1, Stages: c.Stages, Mapping: mapping}}, nil
}

// checkStages requires different keys, and none that is the name of an outcome.
func checkStages(stages []Stage) error {
	seen := make(map[string]bool, len(stages))
	for i, s := range stages {
		switch {
		case s.Key == "won" || s.Key == "lost":
			return domain.Invalid(fmt.Sprintf("/stages/%d/key", i), "{stage} is an outcome that every pipeline has, not a stage", s.Key)
		case seen[s.Key]:
			return domain.Invalid(fmt.Sprintf("/stages/%d/key", i), "stage {stage} stands twice", s.Key)
		}
		seen[s.Key] = true
	}
	return nil
}

// completeMapping returns where every old stage went: as given, else to itself when it was kept, else nowhere.
func completeMapping(old, stages []Stage, given []Mapping) ([]Mapping, error) {
	to := make(map[string]string, len(given))
	for i, m := range given {
		_, twice := to[m.From]
		switch {
		case twice:
			return nil, domain.Invalid(fmt.Sprintf("/mapping/%d/from", i), "stage {stage} is mapped twice", m.From)
		case !hasStage(old, m.From):
			return nil, domain.Invalid(fmt.Sprintf("/mapping/%d/from", i), "{stage} is not a stage of the version before", m.From)
		case m.To != "" && !hasStage(stages, m.To):
			return nil, domain.Invalid(fmt.Sprintf("/mapping/%d/to", i), "{stage} is not a stage of the new version", m.To)
		}
		to[m.From] = m.To
	}
	complete := make([]Mapping, len(old))
	for i, s := range old {
		target, ok := to[s.Key]
		if !ok && hasStage(stages, s.Key) {
			target = s.Key
		}
		complete[i] = Mapping{From: s.Key, To: target}
	}
	return complete, nil
}

func hasStage(stages []Stage, key string) bool {
	return slices.ContainsFunc(stages, func(s Stage) bool { return s.Key == key })
}

func evolve(p Pipeline, e domain.Event) Pipeline {
	switch e := e.(type) {
	case Defined:
		p.Name, p.Version, p.Stages = e.Name, e.Version, e.Stages
	case Revised:
		p.Name, p.Version, p.Stages = e.Name, e.Version, e.Stages
	case Retired:
		p.Retired = true
	}
	return p
}
