package oracle

import (
	"slices"
	"time"
)

// customer folds an event of a customer.
func (x *entry) customer() {
	r, v := x.record("customer"), x.v
	r["changed_at"] = x.OccurredAt
	switch x.what {
	case "registered":
		r["registered_at"], r["status"] = x.OccurredAt, "active"
		r.copy(v, "kind", "source", "parent_id", "tags", "industry", "occupation", "age_band", "region")
		for _, field := range []string{
			"name", "legalName", "taxId", "email", "phone", "website", "address", "birthDate", "gender", "employees", "revenue", "foundedYear",
		} {
			r.profile(field, v[field])
		}
		if text(v["owner"]) != "" {
			x.owner(r, v["owner"], nil)
		}
		if other, ok := v["externalId"].(object); ok {
			r["external_ids"] = object{text(other["system"]): other["id"]}
			x.row("customer_external_id", "system", other["system"], "external_id", other["id"], "customer_id", x.id())
		}
		if v["parentId"] != nil {
			x.relation("parent", x.id(), v["parentId"])["since"] = x.OccurredAt.UTC().Format(time.DateOnly)
		}
	case "profile_changed":
		field := text(v["field"])
		r.profile(field, v["to"].(object)[field])
	case "classified":
		field := text(v["field"])
		r[snake(field)] = v["to"].(object)[field]
	case "tagged":
		tags, _ := r["tags"].([]any)
		if !slices.Contains(tags, v["tag"]) {
			tags = append(slices.Clone(tags), v["tag"])
		}
		slices.SortFunc(tags, func(a, b any) int { return compareText(a, b) })
		r["tags"] = tags
	case "untagged":
		tags, _ := r["tags"].([]any)
		r["tags"] = slices.DeleteFunc(slices.Clone(tags), func(t any) bool { return t == v["tag"] })
	case "preference_set":
		r["preferences"] = put(r["preferences"], "name", object{
			"name": v["name"], "value": v["to"], "evidence": v["evidence"], "since": x.OccurredAt, "eventId": x.ID,
		})
	case "preference_dropped":
		r["preferences"] = drop(r["preferences"], "name", text(v["name"]))
	case "owner_assigned":
		x.owner(r, v["owner"], nil)
	case "ownership_transferred":
		x.owner(r, v["to"], v["reason"])
	case "parent_set":
		r["parent_id"] = v["to"]
		if v["from"] != nil {
			x.relation("parent", x.id(), v["from"])["until"] = x.OccurredAt.UTC().Format(time.DateOnly)
		}
		now := x.relation("parent", x.id(), v["to"])
		now["since"], now["until"] = x.OccurredAt.UTC().Format(time.DateOnly), nil
	case "parent_cleared":
		r["parent_id"] = nil
		x.relation("parent", x.id(), v["from"])["until"] = x.OccurredAt.UTC().Format(time.DateOnly)
	case "member_added":
		r["members"] = put(r["members"], "id", object{"id": v["memberId"], "since": v["since"]})
		m := x.relation("member", v["memberId"], x.id())
		m["since"], m["until"] = v["since"], nil
	case "member_removed":
		r["members"] = drop(r["members"], "id", text(v["memberId"]))
		x.relation("member", v["memberId"], x.id())["until"] = v["until"]
	case "merged":
		absorbed, _ := r["absorbed"].([]any)
		r["absorbed"] = append(slices.Clone(absorbed), v["duplicateId"])
	case "merged_into":
		r["status"], r["merged_into"] = "merged", v["survivorId"]
		x.relation("merged", x.id(), v["survivorId"])["since"] = x.OccurredAt.UTC().Format(time.DateOnly)
	case "deactivated":
		r["status"], r["status_reason"] = "inactive", v["reason"]
	case "reactivated":
		r["status"], r["status_reason"] = "active", v["reason"]
	case "feedback_recorded":
		f := x.row("customer_feedback", "customer_id", x.id(), "revision", x.Revision)
		f.copy(v, "polarity", "topic", "text")
		f["occurred_at"], f["actor"], f["event_id"] = x.OccurredAt, x.Actor.ID, x.ID
	case "commitment_recorded":
		p := x.row("commitment", "customer_id", x.id(), "commitment_id", v["commitmentId"])
		p.copy(v, "text", "due")
		p["promised_by"], p["promised_at"], p["status"] = v["by"], x.OccurredAt, "open"
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

// profile sets a field of a customer's profile.
func (r row) profile(field string, to any) {
	switch field {
	case "address":
		a, _ := to.(object)
		r.copy(a, "street", "city", "postal_code", "country")
		r["address_region"] = a["region"]
	case "revenue":
		r.money("revenue", "revenue_currency", to)
	default:
		r[snake(field)] = to
	}
}

// owner says who looks after a customer from the event on.
func (x *entry) owner(r row, owner, reason any) {
	r["owner"], r["owner_since"] = owner, x.OccurredAt
	h := x.row("customer_owner_history", "customer_id", x.id(), "revision", x.Revision)
	h["owner"], h["reason"], h["since"], h["recorded_at"], h["actor"] = owner, reason, x.OccurredAt, x.RecordedAt, x.Actor.ID
}

// contact folds an event of a contact.
func (x *entry) contact() {
	r, v := x.record("contact"), x.v
	r["changed_at"] = x.OccurredAt
	switch x.what {
	case "created":
		r["created_at"], r["status"] = x.OccurredAt, "active"
		r.copy(v, "title", "given_name", "middle_name", "family_name", "email", "phone", "job_title", "department", "preferred_channel", "language")
	case "detail_changed":
		field := text(v["field"])
		r[snake(field)] = v["to"].(object)[field]
	case "deactivated":
		r["status"] = "inactive"
	case "reactivated":
		r["status"] = "active"
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
	case "related", "unrelated":
		x.row("contact_relation", "contact_id", x.id(), "other_id", v["contactId"], "kind", v["kind"], "since", v["since"])["until"] = v["until"]
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

// interaction folds an event of an interaction.
func (x *entry) interaction() {
	r, v := x.record("interaction"), x.v
	switch x.what {
	case "logged":
		for _, field := range []string{
			"customerId", "channel", "direction", "participants", "subject", "body", "outcome", "durationSeconds", "startedAt", "campaign", "relatesTo",
		} {
			r.detail(field, v[field])
		}
		if v["startedAt"] == nil {
			r["started_at"] = x.OccurredAt
		}
		r["actor"], r["status"], r["recorded_at"] = x.Actor.ID, "logged", x.RecordedAt
	case "corrected":
		field := text(v["field"])
		r.detail(field, v["to"].(object)[field])
		r.add("corrections", 1)
	case "note_added":
		notes, _ := r["notes"].([]any)
		r["notes"] = append(slices.Clone(notes), object{"text": v["text"], "by": x.Actor.ID, "at": x.OccurredAt})
	case "retracted":
		r["status"] = "retracted"
	}
}

// detail sets a field of an interaction.
func (r row) detail(field string, to any) {
	if field != "relatesTo" {
		r[snake(field)] = to
		return
	}
	other, _ := to.(object)
	r["relates_to_aggregate"], r["relates_to_id"] = other["aggregate"], other["id"]
}
