package oracle

// product folds an event of a product.
func (x *entry) product() {
	r, v := x.record("product"), x.v
	r["changed_at"] = x.OccurredAt
	switch x.what {
	case "added":
		r.copy(v, "code", "name", "series", "category", "unit")
		r.money("list_price", "currency", v["listPrice"])
		r["status"] = "active"
	case "updated":
		r.copy(v["to"].(object), "name", "series", "category", "unit")
	case "price_changed":
		r.money("list_price", "currency", v["to"])
	case "discontinued":
		r["status"] = "discontinued"
	case "relisted":
		r["status"] = "active"
	}
}

// pipeline folds an event of a pipeline.
func (x *entry) pipeline() {
	r, v := x.record("pipeline"), x.v
	r["changed_at"] = x.OccurredAt
	if x.what == "retired" {
		r["status"] = "retired"
		return
	}
	r.copy(v, "name", "version", "stages")
	if x.what == "defined" {
		r["status"] = "active"
	}
	version := x.row("pipeline_version", "pipeline_id", x.id(), "version", v["version"])
	version.copy(v, "name", "stages", "mapping")
	version["since"] = x.OccurredAt
}

// opportunity folds an event of an opportunity.
func (x *entry) opportunity() {
	r, v := x.record("opportunity"), x.v
	r["changed_at"] = x.OccurredAt
	if v["pipelineId"] != nil { // the event says how the opportunity stands
		r.copy(v, "customer_id", "owner", "region", "pipeline_id", "pipeline_version")
	}
	switch x.what {
	case "opened":
		r.copy(v, "name", "source", "external_id", "expected_close")
		r.money("amount", "currency", v["amount"])
		r["opened_at"], r["opened_recorded_at"] = x.OccurredAt, x.RecordedAt
		for _, line := range objects(v["lines"]) {
			x.offer(line)
			r.sum("lines_total", line["total"], 1)
		}
		x.enter(r, v["stage"], v["visit"])
	case "updated":
		r.copy(v["to"].(object), "name", "region", "source")
	case "qualified":
		r["score"] = v["score"]
	case "stage_moved":
		x.leave(v["fromVisit"], "moved", v["to"], nil)
		x.enter(r, v["to"], v["toVisit"])
	case "re_estimated":
		r.money("amount", "currency", v["to"])
	case "rescheduled":
		r["expected_close"] = v["to"]
		if from := text(v["from"]); from != "" && text(v["to"]) > from {
			r.add("pushes", 1)
		}
	case "line_added":
		x.offer(v)
		r.money("lines_total", "", v["linesTotal"])
	case "line_changed":
		x.offer(v["to"].(object))
		r.money("lines_total", "", v["linesTotal"])
	case "line_removed":
		x.row("opportunity_line", "opportunity_id", x.id(), "line", v["line"])[gone] = true
		r.money("lines_total", "", v["linesTotal"])
	case "stakeholder_added":
		s := x.row("opportunity_stakeholder", "opportunity_id", x.id(), "contact_id", v["contactId"])
		s["role"], s["since"], s["until"] = v["role"], x.OccurredAt, nil
	case "stakeholder_removed":
		s := x.row("opportunity_stakeholder", "opportunity_id", x.id(), "contact_id", v["contactId"])
		s["role"], s["until"] = v["role"], x.OccurredAt
	case "won":
		r["status"], r["probability"], r["closed_at"] = "won", 100, x.OccurredAt
		r["close_reason"], r["competitor"], r["close_note"] = nil, nil, v["note"]
		r.money("amount", "currency", v["amount"])
		x.leave(v["visit"], "won", nil, v["amount"])
	case "lost":
		r["status"], r["probability"], r["closed_at"] = "lost", 0, x.OccurredAt
		r["close_reason"], r["competitor"], r["close_note"] = v["reason"], v["competitor"], v["note"]
		x.leave(v["visit"], "lost", nil, v["amount"])
	case "reopened":
		r["closed_at"], r["close_reason"], r["competitor"], r["close_note"] = nil, nil, nil, nil
		r.money("amount", "currency", v["amount"])
		r.add("reopened", 1)
		x.enter(r, v["stage"], v["visit"])["reopening"] = true
	}
	worth := v["amount"] // what was estimated or won
	if x.what == "re_estimated" {
		worth = v["to"]
	}
	if worth != nil && (x.what == "opened" || x.what == "re_estimated" || x.what == "won") {
		a := x.row("opportunity_amount", "opportunity_id", x.id(), "revision", x.Revision)
		a.money("amount", "currency", worth)
		a["event_type"], a["occurred_at"], a["recorded_at"] = x.Type(), x.OccurredAt, x.RecordedAt
	}
}

// offer sets a line of what an opportunity offers.
func (x *entry) offer(line object) {
	l := x.row("opportunity_line", "opportunity_id", x.id(), "line", line["line"])
	l.copy(line, "product_code", "product_id", "description", "quantity", "total")
	l.money("unit_price", "currency", line["unitPrice"])
	l[gone] = nil
}

// enter begins a visit of a stage.
func (x *entry) enter(r row, stage, visit any) row {
	r["status"], r["stage"], r["visit"], r["probability"], r["stage_entered_at"] = "open", stage, visit, x.v["probability"], x.OccurredAt
	s := x.row("opportunity_stage_visit", "opportunity_id", x.id(), "visit", visit)
	s.copy(x.v, "customer_id", "owner", "region", "pipeline_id", "pipeline_version", "probability")
	s.money("amount", "currency", x.v["amount"])
	s["stage"], s["entered_at"], s["entered_recorded_at"], s["entered_revision"] = stage, x.OccurredAt, x.RecordedAt, x.Revision
	return s
}

// leave ends a visit of a stage.
func (x *entry) leave(visit any, how string, next, amount any) {
	s := x.row("opportunity_stage_visit", "opportunity_id", x.id(), "visit", visit)
	s["left_at"], s["left_recorded_at"], s["left_by"], s["next_stage"] = x.OccurredAt, x.RecordedAt, how, next
	s.money("closed_amount", "closed_currency", amount)
}

// order folds an event of an order.
func (x *entry) order() {
	r, v := x.record("sales_order"), x.v
	r["changed_at"] = x.OccurredAt
	r.copy(v, "number", "kind", "customer_id")
	if v["outstanding"] != nil {
		r["outstanding"] = v["outstanding"]
	}
	step := func(status, column string) { r["status"], r[column] = status, x.OccurredAt }
	switch x.what {
	case "placed":
		r.copy(v, "opportunity_id", "currency", "total", "delivery_date", "country", "ship_to", "note")
		r["outstanding"], r["lines"] = v["total"], len(objects(v["lines"]))
		step("placed", "placed_at")
		for _, line := range objects(v["lines"]) {
			l := x.row("sales_order_line", "order_id", x.id(), "line", line["line"])
			l.copy(v, "customer_id", "kind", "currency")
			l.copy(line, "product_code", "product_id", "description", "quantity", "unit_price", "total")
			l["placed_at"] = x.OccurredAt
		}
		x.sold(1)
	case "confirmed":
		step("confirmed", "confirmed_at")
	case "delivery_scheduled":
		r["delivery_date"] = v["to"]
	case "production_started":
		step("in_production", "production_at")
	case "shipped":
		step("shipped", "shipped_at")
		r.copy(v, "carrier", "tracking")
	case "delivered":
		step("delivered", "delivered_at")
	case "accepted":
		step("accepted", "accepted_at")
		r.copy(v, "signed_by")
	case "cancelled":
		step("cancelled", "cancelled_at")
		r["cancel_reason"] = v["reason"]
		for _, line := range objects(v["lines"]) {
			x.row("sales_order_line", "order_id", x.id(), "line", line["line"])["cancelled"] = true
		}
		x.sold(-1)
	case "goods_returned":
		r.sum("returned", v["value"], 1)
		for _, line := range objects(v["lines"]) {
			x.row("sales_order_line", "order_id", x.id(), "line", line["line"]).sum("returned", line["quantity"], 1)
			p := x.row("product_sales", "product_code", line["productCode"], "currency", v["currency"])
			p.sum("quantity", line["quantity"], -1)
			p.sum("revenue", line["value"], -1)
		}
		x.sales(v["currency"], func(c row) { c.sum("returned", v["value"], 1); c.sum("net", v["value"], -1) })
	case "payment_received", "payment_refunded":
		column, kind := "paid", "received"
		if x.what == "payment_refunded" {
			column, kind = "refunded", "refunded"
		}
		money := v["amount"].(object)
		r.sum(column, money["amount"], 1)
		p := x.row("payment", "order_id", x.id(), "revision", x.Revision)
		p.copy(v, "payment_id", "refund_id", "customer_id", "method", "reference")
		if kind == "refunded" {
			p["reference"] = v["reason"]
		}
		p.money("amount", "currency", money)
		p["kind"], p["order_number"], p["occurred_at"], p["recorded_at"] = kind, v["number"], x.OccurredAt, x.RecordedAt
		x.sales(money["currency"], func(c row) { c.sum(column, money["amount"], 1) })
	}
}

// sold counts an order in, or with -1 out again.
func (x *entry) sold(sign int64) {
	v, sale := x.v, x.v["kind"] == "sale"
	x.sales(v["currency"], func(c row) {
		switch {
		case sign < 0:
			c.add("cancelled", 1)
		case sale:
			c.add("orders", 1)
			c.span("first_order_at", "last_order_at", x.OccurredAt)
		case v["kind"] == "credit":
			c.add("credits", 1)
		default:
			c.add("adjustments", 1)
		}
		column := "credited"
		if sale {
			column = "gross"
		}
		c.sum(column, v["total"], sign)
		c.sum("net", v["total"], sign)
	})
	counted := map[any]bool{}
	for _, line := range objects(v["lines"]) {
		p := x.row("product_sales", "product_code", line["productCode"], "currency", v["currency"])
		p.sum("quantity", line["quantity"], sign)
		p.sum("revenue", line["total"], sign)
		p.add("lines", int(sign))
		if text(line["description"]) != "" {
			p["description"] = line["description"]
		}
		if sale && !counted[line["productCode"]] {
			counted[line["productCode"]] = true
			p.add("orders", int(sign))
			if sign > 0 {
				p.span("first_sold_at", "last_sold_at", x.OccurredAt)
			}
		}
	}
}

// sales changes the sums of the order's customer, if it has one.
func (x *entry) sales(currency any, change func(row)) {
	if id := text(x.v["customerId"]); id != "" {
		change(x.row("customer_sales", "customer_id", id, "currency", currency))
	}
}
