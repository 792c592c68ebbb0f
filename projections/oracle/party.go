package oracle

import (
	"slices"
	"time"
)

// customer folds an event of a customer: to whom it belongs, and what was promised to it.
func (x *entry) customer() {
	v, day := x.v, x.OccurredAt.UTC().Format(time.DateOnly)
	switch x.what {
	case "registered":
		if v["parentId"] != nil {
			x.relation("parent", x.id(), v["parentId"])["since"] = day
		}
	case "parent_set":
		if v["from"] != nil {
			x.relation("parent", x.id(), v["from"])["until"] = day
		}
		now := x.relation("parent", x.id(), v["to"])
		now["since"], now["until"] = day, nil
	case "parent_cleared":
		x.relation("parent", x.id(), v["from"])["until"] = day
	case "member_added":
		m := x.relation("member", v["memberId"], x.id())
		m["since"], m["until"] = v["since"], nil
	case "member_removed":
		x.relation("member", v["memberId"], x.id())["until"] = v["until"]
	case "merged_into":
		x.relation("merged", x.id(), v["survivorId"])["since"] = day
	case "commitment_recorded":
		p := x.row("commitment", "customer_id", x.id(), "commitment_id", v["commitmentId"])
		p.copy(v, "text", "due")
		p["promised_by"], p["promised_at"], p["status"] = v["by"], x.OccurredAt, "open"
	case "commitment_overdue":
		x.row("commitment", "customer_id", x.id(), "commitment_id", v["commitmentId"])["overdue_at"] = x.OccurredAt
	case "commitment_kept", "commitment_broken":
		p := x.row("commitment", "customer_id", x.id(), "commitment_id", v["commitmentId"])
		p["settled_at"] = x.OccurredAt
		if x.what == "commitment_kept" {
			p["status"], p["note"] = "kept", v["note"]
		} else {
			p["status"], p["note"] = "broken", v["reason"]
		}
	}
}

// relation returns the row of a customer that belongs to another.
func (x *entry) relation(kind string, id, other any) row {
	return x.row("customer_relation", "customer_id", id, "other_id", other, "kind", kind)
}

// contact folds an event of a contact: the parts that it plays at customers.
func (x *entry) contact() {
	v := x.v
	switch x.what {
	case "customer_linked":
		x.link().part(v["role"], v["primary"], v["since"])
	case "role_changed":
		l := x.link()
		l.endPart(v["since"], nil)
		l.part(v["to"], v["toPrimary"], v["since"])
	case "customer_unlinked":
		l := x.link()
		l.endPart(v["until"], v["reason"])
		l["until"] = v["until"]
	}
}

func (x *entry) link() row {
	return x.row("contact_link", "contact_id", x.id(), "customer_id", x.v["customerId"])
}

func (r row) part(role, primary, since any) {
	r["role"], r["is_primary"], r["since"], r["until"] = role, primary, since, nil
	parts, _ := r["parts"].([]any)
	r["parts"] = append(slices.Clone(parts), object{"role": role, "primary": primary, "since": since})
}

func (r row) endPart(until, reason any) {
	parts := objects(r["parts"])
	last := parts[len(parts)-1]
	last["until"], last["reason"] = until, reason
}
