package domaintest_test

import (
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/domaintest"
)

// A turnstile lets as many pass as it was told; it is only as good as its deciders below.
type turnstile struct {
	Passed int
	Names  []string
}

type pass struct {
	domain.When
	Name string `json:"name" doc:"Who passes."`
}

type passed struct {
	Name string `json:"name" doc:"Who passed."`
}

func (pass) CommandType() string { return "turnstile.pass" }
func (passed) EventType() string { return "turnstile.passed" }

var honest = domain.Decider[turnstile]{
	Decide: func(s turnstile, c domain.Command, f domain.Facts) ([]domain.Event, error) {
		switch name := c.(pass).Name; {
		case name == "":
			return nil, domain.Invalid("/name", "is missing")
		case s.Passed >= 2:
			return nil, domain.Reject("full", "two are in")
		case f.Actor.ID == "idle" || f.ID != domaintest.ID || !f.Now.Equal(domaintest.Now) || !f.OccurredAt.Equal(f.Now):
			return nil, nil
		default:
			return []domain.Event{passed{Name: name}}, nil
		}
	},
	Evolve: func(s turnstile, e domain.Event) turnstile {
		s.Passed++
		s.Names = append(s.Names[:len(s.Names):len(s.Names)], e.(passed).Name)
		return s
	},
}

func TestSentencesThatHold(t *testing.T) {
	domaintest.Given(honest).When(pass{Name: "a"}).Then(t, passed{Name: "a"})
	domaintest.Given(honest, passed{Name: "a"}, passed{Name: "b"}).When(pass{Name: "c"}).Rejected(t, "full")
	domaintest.Given(honest).When(pass{}).Invalid(t, "/name")
	domaintest.Given(honest).By(domain.Actor{ID: "idle"}).When(pass{Name: "a"}).Then(t)
	domaintest.Given(honest).Of(domaintest.OtherID(1)).When(pass{Name: "a"}).Then(t)
	domaintest.Given(honest).At(domaintest.Now.Add(1)).When(pass{Name: "a"}).Then(t)
	if d := domaintest.Given(honest).When(pass{Name: "a"}); d.State.Passed != 1 || len(d.Accepted(t)) != 1 {
		t.Errorf("state %v", d.State)
	}
}

func TestSentencesThatDoNotHoldFail(t *testing.T) {
	decide := honest.Decide
	forgetful, answers := honest, 0
	forgetful.Decide = func(s turnstile, c domain.Command, f domain.Facts) ([]domain.Event, error) {
		answers++
		return []domain.Event{passed{Name: fmt.Sprint(answers)}}, nil
	}
	meddling := honest
	meddling.Decide = func(s turnstile, c domain.Command, f domain.Facts) ([]domain.Event, error) {
		s.Names[0] = "z"
		return decide(s, c, f)
	}
	sharing := honest
	sharing.Evolve = func(s turnstile, e domain.Event) turnstile {
		if len(s.Names) > 0 {
			s.Names[0] = e.(passed).Name
		}
		return honest.Evolve(s, e)
	}
	broken := honest
	broken.Decide = func(turnstile, domain.Command, domain.Facts) ([]domain.Event, error) {
		return nil, errors.New("broken")
	}

	for name, sentence := range map[string]func(testing.TB){
		"other events": func(t testing.TB) { domaintest.Given(honest).When(pass{Name: "a"}).Then(t, passed{Name: "b"}) },
		"no events":    func(t testing.TB) { domaintest.Given(honest).When(pass{Name: "a"}).Then(t) },
		"refused":      func(t testing.TB) { domaintest.Given(honest).When(pass{}).Then(t) },
		"not accepted": func(t testing.TB) { domaintest.Given(honest).When(pass{}).Accepted(t) },
		"not rejected": func(t testing.TB) { domaintest.Given(honest).When(pass{Name: "a"}).Rejected(t, "full") },
		"other rule": func(t testing.TB) {
			domaintest.Given(honest, passed{}, passed{}).When(pass{Name: "a"}).Rejected(t, "late")
		},
		"not invalid":    func(t testing.TB) { domaintest.Given(honest).When(pass{Name: "a"}).Invalid(t, "/name") },
		"other pointer":  func(t testing.TB) { domaintest.Given(honest).When(pass{}).Invalid(t, "/names") },
		"not a refusal":  func(t testing.TB) { domaintest.Given(broken).When(pass{}).Rejected(t, "broken") },
		"two answers":    func(t testing.TB) { domaintest.Given(forgetful).When(pass{Name: "a"}).Accepted(t) },
		"decide changes": func(t testing.TB) { domaintest.Given(meddling, passed{Name: "a"}).When(pass{Name: "b"}).Accepted(t) },
		"evolve changes": func(t testing.TB) { domaintest.Given(sharing, passed{Name: "a"}).When(pass{Name: "b"}).Accepted(t) },
	} {
		if !fails(t, sentence) {
			t.Errorf("%s: the test that should fail passed", name)
		}
	}
}

// witness notes failure in place of the real test.
type witness struct {
	testing.TB
	failed bool
}

func (w *witness) Helper()               {}
func (w *witness) Errorf(string, ...any) { w.failed = true }
func (w *witness) Fatalf(string, ...any) {
	w.failed = true
	panic(w)
}

func fails(t *testing.T, sentence func(testing.TB)) (failed bool) {
	w := &witness{TB: t}
	defer func() {
		if r := recover(); r != nil && r != any(w) {
			panic(r)
		}
		failed = w.failed
	}()
	sentence(w)
	return w.failed
}

func TestHistoriesAndSpecsAcceptAnHonestAggregate(t *testing.T) {
	a := domain.Aggregate[turnstile]{
		Name: "turnstile", Plural: "turnstiles", Doc: "Lets two pass.", Decider: honest,
		Events: []domain.EventSpec{{
			Example: passed{Name: "a"}, Doc: "Someone passed.", Words: domain.Words{En: "{name} passed", Zh: "{name}已通过"},
		}},
		Commands: []domain.CommandSpec{{Example: pass{Name: "a"}, Doc: "Passes.", Creates: true}},
		Exists:   func(s turnstile) bool { return s.Passed > 0 },
		Keys:     func(s turnstile) []domain.Key { return []domain.Key{{Kind: "name", Value: s.Names[0]}} },
	}
	domaintest.Specs(t, a.Definition())
	a.Keys = nil
	names := rapid.Map(rapid.SampledFrom([]string{"", "a", "b"}), func(s string) domain.Command { return pass{Name: s} })
	domaintest.Histories(t, a, names, func(before, after turnstile) error {
		if after.Passed != before.Passed+1 || after.Passed > 2 {
			return errors.New("more than two")
		}
		return nil
	})
}
