// Package customer decides what may happen to a customer: a company, a person, or a group of customers.
package customer

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rapport-crm/rapport/domain"
)

// Limits of what one customer may hold at a time, so that its state stays small.
const (
	MaxTags            = 100
	MaxTagLength       = 64 // characters
	MaxPreferences     = 200
	MaxOpenCommitments = 200
	MaxMembers         = 1000
)

// Aggregate declares the customer.
var Aggregate = domain.Aggregate[Customer]{
	Name:     "customer",
	Plural:   "customers",
	Doc:      "A company, a person or a group in business with us.",
	Decider:  domain.Decider[Customer]{Decide: decide, Evolve: evolve},
	Events:   eventSpecs,
	Commands: commandSpecs,

	Deadlines: deadlines,

	Exists: Customer.Exists,
	Keys:   Customer.keys,
	Subjects: func(id domain.ID, c Customer) []domain.ID {
		if c.MergedInto != "" {
			return []domain.ID{id, c.MergedInto}
		}
		return []domain.ID{id}
	},
}

// Customer is what the rules need to know, folded from one stream. The zero value is a customer that does not exist.
type Customer struct {
	Kind Kind // empty until registered
	Profile
	Classification
	ParentID    domain.ID
	Tags        []string // in lower case, sorted
	Owner       string   // empty when nobody looks after the customer
	Inactive    bool
	Preferences map[string]Preference
	Commitments map[string]Commitment
	Members     map[domain.ID]Membership
	Absorbed    []domain.ID // the duplicates that this customer stands for
	MergedInto  domain.ID   // the survivor that stands for this customer; empty while it stands for itself
}

// Preference is what the customer prefers in one matter.
type Preference struct {
	Value    string
	Evidence []domain.ID // events that show it
}

// Exists reports whether the customer has been registered.
func (c Customer) Exists() bool { return c.Kind != "" }

// keys returns what no other customer may have: its values and the duplicates that it has absorbed, so that of two merges of
// one duplicate at once only one begins. A duplicate has no values: they belong to its survivor.
func (c Customer) keys() []domain.Key {
	var keys []domain.Key
	for _, id := range c.Absorbed {
		keys = append(keys, DuplicateKey(id))
	}
	if c.MergedInto != "" {
		return keys
	}
	for _, k := range []domain.Key{
		{Kind: "tax-id", Value: normalTaxID(c.TaxID), Pointer: "/taxId"},
		{Kind: "email", Value: strings.ToLower(c.Email), Pointer: "/email"},
		{Kind: "phone", Value: c.Phone, Pointer: "/phone"},
		{Kind: "name-and-region", Value: c.namesake(), Pointer: "/name"},
	} {
		if k.Value != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// decide returns the events that cmd causes in c. A duplicate takes no command but the repetition of its merging, and
// what settles the promises that were made to it: nobody else can, and they stay with its survivor until then.
func decide(c Customer, cmd domain.Command, f domain.Facts) ([]domain.Event, error) {
	if c.MergedInto != "" {
		if m, ok := cmd.(MergeInto); ok && m.SurvivorID == c.MergedInto {
			return nil, nil
		}
		if !settles(cmd, c) {
			return nil, merged(c)
		}
	}
	switch cmd := cmd.(type) {
	case Register:
		return register(c, cmd, f)
	case UpdateProfile:
		return updateProfile(c, cmd, f)
	case Classify:
		return classify(c, cmd)
	case Tag:
		return tag(c, cmd)
	case Untag:
		if t := label(cmd.Tag); slices.Contains(c.Tags, t) {
			return one(Untagged{Tag: t})
		}
		return nil, nil
	case SetPreference:
		return setPreference(c, cmd)
	case DropPreference:
		name := label(cmd.Name)
		if p, ok := c.Preferences[name]; ok {
			return one(PreferenceDropped{Name: name, From: p.Value, Reason: cmd.Reason})
		}
		return nil, nil
	case AssignOwner:
		return assignOwner(c, cmd)
	case TransferOwnership:
		return transferOwnership(c, cmd)
	case SetParent:
		return setParent(c, cmd, f.ID)
	case ClearParent:
		if c.ParentID == "" {
			return nil, nil
		}
		return one(ParentCleared{From: c.ParentID})
	case RecordCommitment:
		return recordCommitment(c, cmd, f)
	case KeepCommitment:
		p, err := openCommitment(c, cmd.CommitmentID, Kept)
		if p == nil {
			return nil, err
		}
		return one(CommitmentKept{CommitmentID: cmd.CommitmentID, Due: p.Due, By: p.By, Note: cmd.Note})
	case BreakCommitment:
		p, err := openCommitment(c, cmd.CommitmentID, Broken)
		if p == nil {
			return nil, err
		}
		return one(CommitmentBroken{CommitmentID: cmd.CommitmentID, Due: p.Due, By: p.By, Reason: cmd.Reason})
	case MarkCommitmentOverdue:
		return markCommitmentOverdue(c, cmd, f)
	case RecordFeedback:
		if domain.IsBlank(cmd.Topic) {
			return nil, domain.Invalid("/topic", "is blank")
		}
		return one(FeedbackRecorded{Polarity: cmd.Polarity, Topic: cmd.Topic, Text: cmd.Text})
	case AddMember:
		return addMember(c, cmd, f)
	case RemoveMember:
		return removeMember(c, cmd, f)
	case Merge:
		return merge(c, cmd, f.ID)
	case MergeInto:
		return mergeInto(c, cmd, f.ID)
	case Deactivate:
		if c.Inactive {
			return nil, nil
		}
		return one(Deactivated{Reason: cmd.Reason})
	case Reactivate:
		if !c.Inactive {
			return nil, nil
		}
		return one(Reactivated{Reason: cmd.Reason})
	}
	return nil, fmt.Errorf("customer: no decision for command %T", cmd)
}

func register(c Customer, cmd Register, f domain.Facts) ([]domain.Event, error) {
	if c.Exists() {
		return nil, domain.Reject("customer-exists", "the customer is registered already")
	}
	if cmd.Kind != Company && cmd.Kind != Person && cmd.Kind != Group {
		return nil, domain.Invalid("/kind", "\"{kind}\" is not company, person or group", cmd.Kind)
	}
	e := Registered{
		Kind: cmd.Kind, Profile: cmd.Profile, Classification: cmd.Classification,
		ParentID: cmd.ParentID, Owner: cmd.Owner, Source: cmd.Source, ExternalID: cmd.ExternalID,
	}
	faults := e.Profile.faults(f.Now)
	if domain.IsBlank(e.Name) {
		faults = append(faults, domain.Fault("/name", "is blank"))
	}
	faults = append(faults, e.Classification.faults()...)
	for i, t := range cmd.Tags {
		t = label(t)
		if t == "" || len([]rune(t)) > MaxTagLength {
			faults = append(faults, domain.Fault(fmt.Sprintf("/tags/%d", i), "is not 1 to {limit} characters", MaxTagLength))
		}
		e.Tags = append(e.Tags, t)
	}
	if len(faults) > 0 {
		return nil, &domain.InvalidError{Fields: faults}
	}
	slices.Sort(e.Tags)
	e.Tags = slices.Compact(e.Tags)
	if err := fitsKind(cmd.Kind, e.Profile, e.Classification); err != nil {
		return nil, err
	}
	if len(e.Tags) > MaxTags {
		return nil, tooMany("tags", MaxTags)
	}
	if cmd.ParentID != "" {
		if err := mayBeParent(cmd.Kind, f.ID, cmd.ParentID, cmd.Parent, nil); err != nil {
			return nil, err
		}
	}
	return one(e)
}

func tag(c Customer, cmd Tag) ([]domain.Event, error) {
	t := label(cmd.Tag)
	switch {
	case t == "":
		return nil, domain.Invalid("/tag", "is blank")
	case slices.Contains(c.Tags, t):
		return nil, nil
	case len(c.Tags) >= MaxTags:
		return nil, tooMany("tags", MaxTags)
	}
	return one(Tagged{Tag: t})
}

func setPreference(c Customer, cmd SetPreference) ([]domain.Event, error) {
	name := label(cmd.Name)
	if name == "" {
		return nil, domain.Invalid("/name", "is blank")
	}
	if domain.IsBlank(cmd.Value) {
		return nil, domain.Invalid("/value", "is blank; drop the preference instead")
	}
	before, known := c.Preferences[name]
	if !known && len(c.Preferences) >= MaxPreferences {
		return nil, tooMany("preferences", MaxPreferences)
	}
	if before.Value == cmd.Value && (len(cmd.Evidence) == 0 || slices.Equal(cmd.Evidence, before.Evidence)) {
		return nil, nil
	}
	return one(PreferenceSet{Name: name, From: before.Value, To: cmd.Value, Evidence: cmd.Evidence})
}

func assignOwner(c Customer, cmd AssignOwner) ([]domain.Event, error) {
	switch {
	case domain.IsBlank(cmd.Owner):
		return nil, domain.Invalid("/owner", "is blank")
	case cmd.Owner == c.Owner:
		return nil, nil
	case c.Owner != "":
		return nil, domain.Reject("customer-has-owner", "{owner} looks after the customer: transfer the ownership instead", c.Owner)
	}
	return one(OwnerAssigned{Owner: cmd.Owner})
}

func transferOwnership(c Customer, cmd TransferOwnership) ([]domain.Event, error) {
	switch {
	case domain.IsBlank(cmd.To):
		return nil, domain.Invalid("/to", "is blank")
	case cmd.To == c.Owner:
		return nil, nil
	case c.Owner == "":
		return nil, domain.Reject("customer-without-owner", "nobody looks after the customer: assign an owner instead")
	case cmd.From != "" && cmd.From != c.Owner:
		return nil, domain.Reject("owner-differs", "{owner} looks after the customer, not {from}", c.Owner, cmd.From).At("/from")
	}
	return one(OwnershipTransferred{From: c.Owner, To: cmd.To, Reason: cmd.Reason})
}

// evolve folds one recorded event into c. It shares no map or slice between c and its result's changed fields.
func evolve(c Customer, e domain.Event) Customer {
	switch e := e.(type) {
	case Registered:
		c.Kind, c.Profile, c.Classification = e.Kind, e.Profile, e.Classification
		c.ParentID, c.Tags, c.Owner = e.ParentID, e.Tags, e.Owner
	case ProfileChanged:
		c.Profile.Take(e.Field, e.To)
	case Classified:
		c.Classification.Take(e.Field, e.To)
	case Tagged:
		c.Tags = append(slices.Clone(c.Tags), e.Tag)
		slices.Sort(c.Tags)
	case Untagged:
		c.Tags = slices.DeleteFunc(slices.Clone(c.Tags), func(t string) bool { return t == e.Tag })
	case PreferenceSet:
		c.Preferences = domain.With(c.Preferences, e.Name, Preference{Value: e.To, Evidence: e.Evidence})
	case PreferenceDropped:
		c.Preferences = maps.Clone(c.Preferences)
		delete(c.Preferences, e.Name)
	case OwnerAssigned:
		c.Owner = e.Owner
	case OwnershipTransferred:
		c.Owner = e.To
	case ParentSet:
		c.ParentID = e.To
	case ParentCleared:
		c.ParentID = ""
	case CommitmentRecorded:
		c.Commitments = domain.With(c.Commitments, e.CommitmentID, Commitment{Text: e.Text, Due: e.Due, By: e.By})
	case CommitmentKept:
		c.Commitments = closed(c.Commitments, e.CommitmentID, Kept)
	case CommitmentBroken:
		c.Commitments = closed(c.Commitments, e.CommitmentID, Broken)
	case CommitmentOverdue:
		p := c.Commitments[e.CommitmentID]
		p.Overdue = true
		c.Commitments = domain.With(c.Commitments, e.CommitmentID, p)
	case MemberAdded:
		c.Members = domain.With(c.Members, e.MemberID, Membership{Since: e.Since})
	case MemberRemoved:
		c.Members = domain.With(c.Members, e.MemberID, Membership{Since: e.Since, Until: e.Until})
	case Merged:
		c.Absorbed = append(slices.Clone(c.Absorbed), e.DuplicateID)
	case MergedInto:
		c.MergedInto = e.SurvivorID
	case Deactivated:
		c.Inactive = true
	case Reactivated:
		c.Inactive = false
	}
	return c
}

func one(e domain.Event) ([]domain.Event, error) { return []domain.Event{e}, nil }

// label brings names of tags and preferences to one form: lower case, single blanks.
func label(s string) string { return strings.ToLower(strings.Join(strings.Fields(s), " ")) }

func tooMany(what string, limit int) error {
	return domain.Reject("too-many-"+strings.ReplaceAll(what, " ", "-"), "a customer has at most {limit} {things}", limit, what)
}

func unknown(pointer string, id domain.ID) error {
	return domain.Reject("customer-unknown", "there is no customer {customerId}", id).At(pointer)
}

func merged(c Customer) *domain.Rejection {
	return domain.Reject("customer-merged", "the customer was a duplicate; {survivorId} stands for it", c.MergedInto)
}

func inactive() error {
	return domain.Reject("customer-inactive", "the customer is deactivated: reactivate it first")
}
