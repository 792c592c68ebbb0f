package commands_test

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// member is a small aggregate with everything that the bus serves: a unique handle, facts of another aggregate, rules.
type member struct {
	Joined  bool
	Handle  string
	Badge   string
	Credits int
	Sponsor domain.ID
}

type (
	join struct {
		Handle string `json:"handle" minLength:"1" maxLength:"40"`
		Badge  string `json:"badge,omitempty" maxLength:"40"`
		domain.When
	}
	rename struct {
		Handle string `json:"handle" minLength:"1" maxLength:"40"`
		Badge  string `json:"badge,omitempty" maxLength:"40"` // unchanged when empty
		domain.When
	}
	credit struct {
		Amount int `json:"amount" minimum:"0"`
		domain.When
	}
	spend struct {
		Amount int `json:"amount" minimum:"1"`
		domain.When
	}
	sponsor struct {
		SponsorID     domain.ID `json:"sponsorId"`
		SponsorHandle string    `json:"-"`
		domain.When
	}

	joined   struct{ Handle, Badge string }
	renamed  struct{ Handle, Badge string }
	credited struct{ Amount int }
	spent    struct{ Amount int }
	emptied  struct{}
	backed   struct {
		SponsorID domain.ID
		Handle    string
	}
)

func (join) CommandType() string    { return "member.join" }
func (rename) CommandType() string  { return "member.rename" }
func (credit) CommandType() string  { return "member.credit" }
func (spend) CommandType() string   { return "member.spend" }
func (sponsor) CommandType() string { return "member.sponsor" }

func (joined) EventType() string   { return "member.joined" }
func (renamed) EventType() string  { return "member.renamed" }
func (credited) EventType() string { return "member.credited" }
func (spent) EventType() string    { return "member.spent" }
func (emptied) EventType() string  { return "member.emptied" }
func (backed) EventType() string   { return "member.backed" }

var members = domain.Aggregate[member]{
	Name:   "member",
	Plural: "members",
	Doc:    "A member of a club.",
	Decider: domain.Decider[member]{
		Decide: func(m member, c domain.Command, _ domain.Facts) ([]domain.Event, error) {
			switch c := c.(type) {
			case join:
				if c.Handle == "forbidden" {
					return nil, domain.Reject("handle-forbidden", "not this one")
				}
				return []domain.Event{joined{c.Handle, c.Badge}}, nil
			case rename:
				badge := cmp.Or(c.Badge, m.Badge)
				if c.Handle == m.Handle && badge == m.Badge {
					return nil, nil
				}
				return []domain.Event{renamed{c.Handle, badge}}, nil
			case credit:
				if c.Amount == 0 {
					return nil, nil
				}
				return []domain.Event{credited{c.Amount}}, nil
			case spend:
				switch {
				case c.Amount > m.Credits:
					return nil, domain.Reject("not-enough-credit", "{count} of {limit}", c.Amount, m.Credits)
				case c.Amount == m.Credits:
					return []domain.Event{spent{c.Amount}, emptied{}}, nil
				}
				return []domain.Event{spent{c.Amount}}, nil
			case sponsor:
				return []domain.Event{backed{c.SponsorID, c.SponsorHandle}}, nil
			}
			return nil, fmt.Errorf("member: no decision for %T", c)
		},
		Evolve: func(m member, e domain.Event) member {
			switch e := e.(type) {
			case joined:
				m.Joined, m.Handle, m.Badge = true, e.Handle, e.Badge
			case renamed:
				m.Handle, m.Badge = e.Handle, e.Badge
			case credited:
				m.Credits += e.Amount
			case spent:
				m.Credits -= e.Amount
			case backed:
				m.Sponsor = e.SponsorID
			}
			return m
		},
	},
	Events: []domain.EventSpec{
		{Example: joined{}}, {Example: renamed{}}, {Example: credited{}}, {Example: spent{}}, {Example: emptied{}}, {Example: backed{}, Schema: 2},
	},
	Commands: []domain.CommandSpec{
		{Example: join{}, Creates: true}, {Example: rename{}}, {Example: credit{}}, {Example: spend{}}, {Example: sponsor{}},
	},
	Exists: func(m member) bool { return m.Joined },
	Keys: func(m member) []domain.Key {
		var keys []domain.Key
		if m.Handle != "" {
			keys = append(keys, domain.Key{Kind: "handle", Value: strings.ToLower(m.Handle), Pointer: "/handle"})
		}
		if m.Badge != "" {
			keys = append(keys, domain.Key{Kind: "badge", Value: m.Badge, Pointer: "/badge"})
		}
		return keys
	},
	Subjects: func(id domain.ID, m member) []domain.ID {
		if m.Sponsor != "" {
			return []domain.ID{id, m.Sponsor}
		}
		return []domain.ID{id}
	},
}

func prepareSponsor(ctx context.Context, l *commands.Loader, _ commands.Request, c sponsor) (sponsor, error) {
	m, ok, err := commands.Load(ctx, l, members, c.SponsorID)
	if err != nil {
		return c, err
	}
	if !ok {
		return c, domain.Reject("unknown-member", "no member {sponsorId}", c.SponsorID).At("/sponsorId")
	}
	c.SponsorHandle = m.Handle
	return c, nil
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Microsecond)
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

var noon = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// world is a store with any number of buses over it, each as good as another process.
type world struct {
	store *memoryStore
	clock *clock
}

func newWorld() *world {
	return &world{store: newMemoryStore(), clock: &clock{now: noon}}
}

func (w *world) bus() *commands.Bus {
	b := commands.NewBus(w.store, commands.Options{Clock: w.clock.Now, Secret: []byte("test")})
	b.Register([]domain.Definition{members.Definition()}, commands.Prepare(prepareSponsor))
	return b
}

var ada = domain.Actor{ID: "ada", Kind: domain.ActorHuman}

func request(key string, target domain.ID, c domain.Command) commands.Request {
	return commands.Request{Tenant: domain.DefaultTenant, Actor: ada, Key: key, Target: target, Command: c}
}

func submit(t testing.TB, b *commands.Bus, r commands.Request) commands.Receipt {
	t.Helper()
	got, err := b.Submit(t.Context(), r)
	if err != nil {
		t.Fatalf("submit %s: %v", r.Command.CommandType(), err)
	}
	return got
}

func streamOf(id domain.ID) domain.StreamID {
	return domain.StreamID{Tenant: domain.DefaultTenant, Aggregate: "member", ID: id}
}
