package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// Values that several customers want.
var (
	emails = []string{"info@acme.example", "Sales@acme.example", "info@globex.example"}
	phones = []string{"+493012345678", "+493012345679"}
	taxIDs = []string{"DE 123456789", "de123456780"}
)

// uniqueValue is one of them, and a command that claims it.
type uniqueValue struct {
	name  string // kind and value as the key of the aggregate has them
	claim customer.Register
}

func uniqueValues() (list []uniqueValue) {
	add := func(p customer.Profile) {
		p.Name = "Latecomer"
		c := customer.Register{Kind: customer.Company, Profile: p}
		key := customer.Aggregate.Keys(customer.Customer{Kind: c.Kind, Profile: p})[0]
		list = append(list, uniqueValue{key.Kind + " " + key.Value, c})
	}
	for _, v := range emails {
		add(customer.Profile{Email: v})
	}
	for _, v := range phones {
		add(customer.Profile{Phone: v})
	}
	for _, v := range taxIDs {
		add(customer.Profile{TaxID: v})
	}
	return list
}

// generator makes up commands: the examples that aggregates declare, with fields changed at random, so that about half of
// them are accepted.
type generator struct {
	rng     *rand.Rand
	creates map[string]domain.CommandSpec   // by aggregate
	changes map[string][]domain.CommandSpec // by aggregate
	names   []string                        // of aggregates
	known   map[string][]domain.ID          // by aggregate: those that may exist
	wild    bool                            // values that nobody accepts are wanted, too
}

// enough is how many aggregates of a kind there are to be: few, so that commands meet.
const enough = 4

func newGenerator(rng *rand.Rand, definitions []domain.Definition) *generator {
	g := &generator{rng: rng, creates: map[string]domain.CommandSpec{}, changes: map[string][]domain.CommandSpec{}, known: map[string][]domain.ID{}}
	for _, d := range definitions {
		g.names = append(g.names, d.Name)
		for _, c := range d.Commands {
			if c.Creates {
				g.creates[d.Name] = c
			} else {
				g.changes[d.Name] = append(g.changes[d.Name], c)
			}
		}
	}
	return g
}

func aggregateOf(spec domain.CommandSpec) string {
	name, _, _ := strings.Cut(spec.Type(), ".")
	return name
}

// know keeps the id of an aggregate that exists, or may.
func (g *generator) know(aggregate string, id domain.ID) {
	if !slices.Contains(g.known[aggregate], id) {
		g.known[aggregate] = append(g.known[aggregate], id)
	}
}

// choose picks a command and the aggregate that it addresses.
func (g *generator) choose() (domain.CommandSpec, domain.ID) {
	name := g.names[g.rng.IntN(len(g.names))]
	if g.rng.IntN(3) == 0 {
		name = "customer" // most rules are about them
	}
	if n := len(g.known[name]); n == 0 || n < enough && g.rng.IntN(3) == 0 || g.rng.IntN(15) == 0 {
		return g.creates[name], ""
	}
	list := g.changes[name]
	spec := list[g.rng.IntN(len(list))]
	if ends[spec.Type()] && g.rng.IntN(4) > 0 {
		spec = list[g.rng.IntN(len(list))]
	}
	return spec, g.id(name)
}

// ends are commands after which an aggregate takes few others.
var ends = map[string]bool{"pipeline.retire": true, "customer.merge": true, "customer.deactivate": true, "contact.deactivate": true, "interaction.retract": true, "order.cancel": true}

// id returns one that may exist, and now and then one that does not.
func (g *generator) id(aggregate string) domain.ID {
	list := g.known[aggregate]
	if len(list) == 0 || g.rng.IntN(40) == 0 {
		return "01900000-0000-7000-8000-00000000dead"
	}
	return list[max(0, len(list)-1-g.rng.IntN(2*enough))] // the newer ones
}

// command makes one up.
func (g *generator) command(spec domain.CommandSpec) domain.Command {
	into := copyOf(spec.Example)
	g.wild = g.rng.IntN(5) == 0
	g.vary(into.Elem(), "")
	if r, ok := into.Interface().(*customer.Register); ok && !g.wild {
		fit(r)
	}
	return into.Elem().Interface().(domain.Command)
}

// fit empties the fields that do not belong to a customer of the kind.
func fit(r *customer.Register) {
	if r.Kind != customer.Person {
		r.BirthDate, r.Gender, r.Occupation, r.AgeBand = "", "", "", ""
	}
	if r.Kind != customer.Company {
		r.Employees, r.Revenue, r.FoundedYear, r.Industry, r.ParentID = 0, domain.Money{}, 0, "", ""
	}
}

// another returns a command of the same type, most likely with another content.
func (g *generator) another(c domain.Command) domain.Command {
	name, _, _ := strings.Cut(c.CommandType(), ".")
	for _, spec := range append(g.changes[name], g.creates[name]) {
		if spec.Type() == c.CommandType() {
			return g.command(spec)
		}
	}
	return c
}

// copyOf returns a pointer to a copy that shares nothing.
func copyOf(c domain.Command) reflect.Value {
	body, err := json.Marshal(c)
	if err != nil {
		panic(err) // commands come from JSON and go there
	}
	into := reflect.New(reflect.TypeOf(c))
	if err := json.Unmarshal(body, into.Interface()); err != nil {
		panic(err)
	}
	return into
}

// vary changes the fields of a struct that come from clients.
func (g *generator) vary(v reflect.Value, path string) {
	for i := range v.NumField() {
		f, field := v.Type().Field(i), v.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "-" || !f.IsExported() {
			continue
		}
		if f.Anonymous {
			g.vary(field, path)
			continue
		}
		g.field(field, f.Tag, path+"/"+name)
	}
}

// field changes one field, or leaves it as the example has it.
func (g *generator) field(v reflect.Value, tag reflect.StructTag, path string) {
	name := path[strings.LastIndexByte(path, '/')+1:]
	if v.Kind() == reflect.Pointer {
		if g.rng.IntN(2) == 0 {
			v.SetZero()
			return
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	switch at := v.Addr().Interface().(type) {
	case *domain.ID:
		*at = g.reference(name, *at)
		return
	case *domain.Amount:
		if g.rng.IntN(2) == 0 {
			*at = domain.MustMoney(pick(g.rng, "1", "2", "0.005", "99.99", "1000"), "EUR").Amount
		}
		return
	case *domain.Money:
		if g.rng.IntN(2) == 0 {
			*at = domain.MustMoney(pick(g.rng, "1", "0", "99.99", "1000"), pick(g.rng, "EUR", "EUR", "EUR", "USD"))
		}
		return
	case *domain.Date:
		switch {
		case g.wild:
			*at = domain.Date(pick(g.rng, "", "2026-01-31", "2026-04-30", "2027-02-28"))
		case name == "since" || name == "until":
			*at = domain.Date(pick(g.rng, "", "", "2026-01-31", "2026-03-01"))
		}
		return
	case *time.Time:
		if name != "occurredAt" && g.rng.IntN(2) == 0 {
			return
		}
		if *at = (time.Time{}); g.rng.IntN(5) == 0 || name != "occurredAt" && !g.wild {
			*at = epoch.Add(-time.Duration(g.rng.IntN(100)) * time.Hour)
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		g.vary(v, path)
		if ref := v.FieldByName("Aggregate"); ref.IsValid() && v.FieldByName("ID").IsValid() {
			kind := pick(g.rng, "opportunity", "order", "customer")
			ref.SetString(kind)
			v.FieldByName("ID").SetString(string(g.id(kind)))
		}
		if kind := v.FieldByName("Kind"); name == "participants" && kind.IsValid() {
			kind.SetString("user")
			v.FieldByName("ID").SetString("ann")
		}
	case reflect.Slice:
		for i := range v.Len() {
			g.field(v.Index(i), "", path)
		}
	case reflect.String:
		v.SetString(g.text(name, tag.Get("enum"), v.String()))
	case reflect.Int, reflect.Int64:
		if name == "line" || g.wild {
			v.SetInt(int64(g.rng.IntN(4)))
		}
	case reflect.Bool:
		v.SetBool(g.rng.IntN(2) == 0)
	}
}

// reference names an aggregate of the kind that the field's name tells.
func (g *generator) reference(name string, before domain.ID) domain.ID {
	switch name {
	case "customerId", "duplicateId", "survivorId", "memberId":
		return g.id("customer")
	case "parentId":
		if g.rng.IntN(3) > 0 {
			return ""
		}
		return g.id("customer")
	case "contactId":
		return g.id("contact")
	case "productId", "opportunityId":
		if g.rng.IntN(2) == 0 {
			return ""
		}
		return g.id(strings.TrimSuffix(name, "Id"))
	case "pipelineId":
		if g.rng.IntN(2) == 0 || len(g.known["pipeline"]) == 0 {
			return ""
		}
		return g.id("pipeline")
	}
	return before
}

// text changes a text.
func (g *generator) text(name, enum, before string) string {
	if g.wild && g.rng.IntN(4) == 0 {
		return pick(g.rng, "", "  ", before+"!", "nobody", "030 1")
	}
	if enum != "" {
		if g.rng.IntN(2) == 0 {
			return before
		}
		return pick(g.rng, strings.Split(enum, ",")...)
	}
	switch name {
	case "email":
		return pick(g.rng, append(emails, "", "", "", "", "")...)
	case "phone":
		return pick(g.rng, append(phones, "", "", "", "", "")...)
	case "taxId":
		return pick(g.rng, append(taxIDs, "", "", "", "")...)
	case "owner", "by", "signedBy", "to":
		if !strings.Contains(before, "@") && before != "quotation" {
			return pick(g.rng, "ann", "bob")
		}
	case "from":
		return pick(g.rng, "", "", "ann", "bob")
	case "stage":
		return pick(g.rng, "prospecting", "qualification", "proposal", "negotiation", before)
	case "country":
		return pick(g.rng, "DE", "", before)
	case "commitmentId", "paymentId", "refundId":
		return pick(g.rng, "1", "2", "3")
	case "clear":
		return pick(g.rng, "website", "email", "phone")
	case "code", "productCode":
		return pick(g.rng, "A", "B", "C", before)
	case "name", "reason", "text", "note", "subject", "body", "tag", "value", "description", "topic", "number":
		return pick(g.rng, "Acme", "globex", before, before)
	}
	return before
}

func pick(rng *rand.Rand, values ...string) string { return values[rng.IntN(len(values))] }

// commandSpace is the namespace of command ids; stored events depend on it, so it is written down a second time here.
var commandSpace = uuid.MustParse("6f7c1c5e-2f0b-4a53-9a52-1d6f0a2c7b11")

// commandID derives the id of a command as the bus must.
func commandID(r commands.Request) string {
	return uuid.NewSHA1(commandSpace, []byte(fmt.Sprintf("%s\x00%s\x00%s", r.Tenant, r.Actor.ID, r.Key))).String()
}
