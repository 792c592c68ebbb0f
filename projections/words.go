package projections

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/contact"
	"github.com/rapport-crm/rapport/domain/customer"
	"github.com/rapport-crm/rapport/domain/interaction"
	"github.com/rapport-crm/rapport/domain/opportunity"
	"github.com/rapport-crm/rapport/domain/order"
)

// maxQuote is how many characters of free text a summary repeats.
const maxQuote = 120

// Words says in plain words what has happened. For events that it does not know it makes words of the type's name.
func Words(e domain.Event) string {
	var words string
	switch aggregate, _, _ := strings.Cut(e.EventType(), "."); aggregate {
	case "customer":
		words = customerWords(e)
	case "contact":
		words = contactWords(e)
	case "interaction":
		words = interactionWords(e)
	case "opportunity":
		words = opportunityWords(e)
	case "order":
		words = orderWords(e)
	}
	if words == "" {
		words = strings.NewReplacer(".", " ", "_", " ").Replace(e.EventType())
		words = strings.ToUpper(words[:1]) + words[1:]
	}
	return words
}

func customerWords(e domain.Event) string {
	switch e := e.(type) {
	case customer.Registered:
		return fmt.Sprintf("Registered as %s %s%s", e.Kind, quote(e.Name), clause(", looked after by ", e.Owner))
	case customer.ProfileChanged:
		return changeWords(e.Field, e.From, e.To)
	case customer.Classified:
		return changeWords(e.Field, e.From, e.To)
	case customer.Tagged:
		return "Tagged " + quote(e.Tag)
	case customer.Untagged:
		return "Tag " + quote(e.Tag) + " removed"
	case customer.PreferenceSet:
		return fmt.Sprintf("Prefers %s for %s%s", quote(e.To), quote(e.Name), clause(", before ", quote(e.From)))
	case customer.PreferenceDropped:
		return fmt.Sprintf("No longer prefers %s for %s%s", quote(e.From), quote(e.Name), clause(": ", quote(e.Reason)))
	case customer.OwnerAssigned:
		return "Looked after by " + e.Owner
	case customer.OwnershipTransferred:
		return fmt.Sprintf("Handed over from %s to %s%s", e.From, e.To, clause(": ", quote(e.Reason)))
	case customer.ParentSet:
		return fmt.Sprintf("Belongs to company %s%s", e.To, clause(", before to ", string(e.From)))
	case customer.ParentCleared:
		return fmt.Sprintf("Belongs to company %s no longer", e.From)
	case customer.CommitmentRecorded:
		return fmt.Sprintf("%s promised by %s: %s", e.By, e.Due, quote(e.Text))
	case customer.CommitmentKept:
		return fmt.Sprintf("Promise of %s due %s kept%s", e.By, e.Due, clause(": ", quote(e.Note)))
	case customer.CommitmentBroken:
		return fmt.Sprintf("Promise of %s due %s broken%s", e.By, e.Due, clause(": ", quote(e.Reason)))
	case customer.FeedbackRecorded:
		return fmt.Sprintf("Feedback, %s, about %s%s", e.Polarity, quote(e.Topic), clause(": ", quote(e.Text)))
	case customer.MemberAdded:
		return fmt.Sprintf("Customer %s is a member since %s", e.MemberID, e.Since)
	case customer.MemberRemoved:
		return fmt.Sprintf("Customer %s is a member no longer from %s", e.MemberID, e.Until)
	case customer.Merged:
		return fmt.Sprintf("Absorbed its duplicate %s%s", e.DuplicateID, clause(": ", quote(e.Reason)))
	case customer.MergedInto:
		return fmt.Sprintf("Was a duplicate; %s stands for it", e.SurvivorID)
	case customer.Deactivated:
		return "Deactivated" + clause(": ", quote(e.Reason))
	case customer.Reactivated:
		return "Reactivated" + clause(": ", quote(e.Reason))
	}
	return ""
}

func contactWords(e domain.Event) string {
	switch e := e.(type) {
	case contact.Created:
		return "Contact " + quote(strings.TrimSpace(e.GivenName+" "+e.FamilyName)) + " became known"
	case contact.DetailChanged:
		return "Contact: " + changeWords(e.Field, e.From, e.To)
	case contact.CustomerLinked:
		return fmt.Sprintf("Contact is %s%s since %s", e.Role, primary(e.Primary), e.Since)
	case contact.RoleChanged:
		return fmt.Sprintf("Contact is %s%s since %s, before %s%s", e.To, primary(e.ToPrimary), e.Since, e.From, primary(e.FromPrimary))
	case contact.CustomerUnlinked:
		return fmt.Sprintf("Contact is %s no longer from %s%s", e.Role, e.Until, clause(": ", quote(e.Reason)))
	case contact.Related:
		return fmt.Sprintf("Contact %s contact %s since %s", relation(e.Kind), e.ContactID, e.Since)
	case contact.Unrelated:
		return fmt.Sprintf("Contact %s contact %s no longer from %s", relation(e.Kind), e.ContactID, e.Until)
	case contact.Deactivated:
		return "Contact deactivated" + clause(": ", quote(e.Reason))
	case contact.Reactivated:
		return "Contact reactivated" + clause(": ", quote(e.Reason))
	}
	return ""
}

func primary(is bool) string {
	if is {
		return " and first to turn to"
	}
	return ""
}

func relation(kind contact.RelationKind) string { return strings.ReplaceAll(string(kind), "-", " ") }

func interactionWords(e domain.Event) string {
	switch e := e.(type) {
	case interaction.Logged:
		return fmt.Sprintf("%s, %s%s%s", capital(string(e.Channel)), e.Direction, clause(": ", quote(e.Subject)), clause(", outcome ", e.Outcome))
	case interaction.Corrected:
		return fmt.Sprintf("Interaction corrected: %s (%s)", changeWords(e.Field, e.From, e.To), quote(e.Reason))
	case interaction.NoteAdded:
		return "Note on an interaction: " + quote(e.Text)
	case interaction.Retracted:
		return fmt.Sprintf("Interaction retracted, a %s%s: %s", e.Details.Channel, clause(" about ", quote(e.Details.Subject)), quote(e.Reason))
	}
	return ""
}

func opportunityWords(e domain.Event) string {
	switch e := e.(type) {
	case opportunity.Opened:
		return fmt.Sprintf("Opportunity %s opened in stage %s%s", quote(e.Name), e.Stage, clause(", estimated at ", money(e.Amount)))
	case opportunity.Updated:
		return fmt.Sprintf("Opportunity described anew: %s%s%s", quote(e.To.Name), clause(", region ", e.To.Region), clause(", source ", e.To.Source))
	case opportunity.Qualified:
		return fmt.Sprintf("Opportunity scored %d: %s", e.Score, quote(e.Reason))
	case opportunity.StageMoved:
		return fmt.Sprintf("Opportunity moved from stage %s to %s%s", e.From, e.To, clause(", estimated at ", money(e.Amount)))
	case opportunity.ReEstimated:
		return fmt.Sprintf("Opportunity estimated at %s%s%s", e.To, clause(", before ", money(e.From)), clause(": ", quote(e.Reason)))
	case opportunity.Rescheduled:
		return fmt.Sprintf("Opportunity expected to close on %s%s%s", e.To, clause(", before ", string(e.From)), clause(": ", quote(e.Reason)))
	case opportunity.LineAdded:
		return fmt.Sprintf("Offered %s of %s at %s", e.Quantity, e.ProductCode, e.UnitPrice)
	case opportunity.LineChanged:
		return fmt.Sprintf("Offered %s of %s at %s, before %s of %s at %s",
			e.To.Quantity, e.To.ProductCode, e.To.UnitPrice, e.From.Quantity, e.From.ProductCode, e.From.UnitPrice)
	case opportunity.LineRemoved:
		return fmt.Sprintf("No longer offered: %s of %s", e.Quantity, e.ProductCode)
	case opportunity.StakeholderAdded:
		return fmt.Sprintf("Contact %s is %s of the opportunity%s", e.ContactID, e.Role, clause(", before ", string(e.From)))
	case opportunity.StakeholderRemoved:
		return fmt.Sprintf("Contact %s is %s of the opportunity no longer", e.ContactID, e.Role)
	case opportunity.Assigned:
		return fmt.Sprintf("Opportunity handed over from %s to %s%s", e.From, e.To, clause(": ", quote(e.Reason)))
	case opportunity.CustomerLinked:
		return fmt.Sprintf("Opportunity belongs to customer %s%s", e.To, clause(", before ", string(e.From)))
	case opportunity.Won:
		return fmt.Sprintf("Opportunity won at %s from stage %s%s", e.Amount, e.Stage, clause(": ", quote(e.Note)))
	case opportunity.Lost:
		return fmt.Sprintf("Opportunity lost from stage %s because of %s%s%s", e.Stage, quote(string(e.Reason)), clause(" to ", e.Competitor), clause(": ", quote(e.Note)))
	case opportunity.Reopened:
		return fmt.Sprintf("Opportunity reopened in stage %s after it was %s%s", e.Stage, e.From, clause(": ", quote(e.Reason)))
	}
	return ""
}

func orderWords(e domain.Event) string {
	switch e := e.(type) {
	case order.Placed:
		return fmt.Sprintf("%s %s placed: %d lines, %s %s", capital(orderNoun(e.Kind)), e.Number, len(e.Lines), e.Total, e.Currency)
	case order.Confirmed:
		return fmt.Sprintf("Order %s confirmed", e.Number)
	case order.DeliveryScheduled:
		return fmt.Sprintf("Order %s to be delivered on %s%s%s", e.Number, e.To, clause(", before ", string(e.From)), clause(": ", quote(e.Reason)))
	case order.ProductionStarted:
		return fmt.Sprintf("Order %s in production", e.Number)
	case order.Shipped:
		return fmt.Sprintf("Order %s shipped%s%s", e.Number, clause(" with ", e.Carrier), clause(", tracking ", e.Tracking))
	case order.Delivered:
		return fmt.Sprintf("Order %s delivered", e.Number)
	case order.Accepted:
		return fmt.Sprintf("Order %s signed off%s", e.Number, clause(" by ", e.SignedBy))
	case order.Cancelled:
		return fmt.Sprintf("%s %s over %s %s cancelled: %s", capital(orderNoun(e.Kind)), e.Number, e.Total, e.Currency, quote(e.Reason))
	case order.GoodsReturned:
		return fmt.Sprintf("Goods of order %s worth %s %s came back: %s", e.Number, e.Value, e.Currency, quote(e.Reason))
	case order.PaymentReceived:
		return fmt.Sprintf("%s received for order %s, %s outstanding", e.Amount, e.Number, e.Outstanding)
	case order.PaymentRefunded:
		return fmt.Sprintf("%s paid back for order %s: %s", e.Amount, e.Number, quote(e.Reason))
	}
	return ""
}

func orderNoun(k order.Kind) string {
	if k == order.KindSale {
		return "order"
	}
	return string(k)
}

// changeWords says how one field changed; from and to are structs in which only that field stands.
func changeWords(name string, from, to any) string {
	before, after := fieldWords(name, from), fieldWords(name, to)
	switch {
	case before == "":
		return fmt.Sprintf("%s is %s", capital(words(name)), after)
	case after == "":
		return fmt.Sprintf("%s is no longer known, before %s", capital(words(name)), before)
	}
	return fmt.Sprintf("%s changed from %s to %s", capital(words(name)), before, after)
}

// fieldWords renders the field with a JSON name of a struct; the empty string when it is empty.
func fieldWords(name string, of any) string {
	v := reflect.ValueOf(of)
	for i := range v.NumField() {
		tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if tag != name || v.Field(i).IsZero() {
			continue
		}
		switch value := v.Field(i).Interface().(type) {
		case fmt.Stringer:
			return value.String()
		case int:
			return fmt.Sprint(value)
		}
		if v.Field(i).Kind() == reflect.String {
			return quote(v.Field(i).String())
		}
		text, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			return "(not shown)"
		}
		return quote(string(text))
	}
	return ""
}

// words turns a JSON name into words: legalName becomes legal name.
func words(name string) string {
	var b strings.Builder
	for _, r := range name {
		if r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
			r += 'a' - 'A'
		}
		b.WriteRune(r)
	}
	return b.String()
}

func capital(s string) string {
	if s == "" {
		return s
	}
	_, size := utf8.DecodeRuneInString(s)
	return strings.ToUpper(s[:size]) + s[size:]
}

// quote puts free text in quotation marks, shortened to maxQuote characters; no text gives no quotation marks.
func quote(s string) string {
	if s == "" {
		return ""
	}
	if utf8.RuneCountInString(s) > maxQuote {
		s = string([]rune(s)[:maxQuote-1]) + "…"
	}
	return "“" + s + "”"
}

// clause puts words before a text that is not empty.
func clause(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

func money(m *domain.Money) string {
	if m == nil {
		return ""
	}
	return m.String()
}
