package oracle

// opportunity folds an event of an opportunity: where it stands, what it is worth, and its stays in stages.
func (x *entry) opportunity() {
	r, v := x.record("opportunity"), x.v
	if v["pipelineId"] != nil { // the event says how the opportunity stands
		r.copy(v, "customer_id", "owner", "region", "pipeline_id", "pipeline_version")
	}
	switch x.what {
	case "opened":
		r.money("amount", "currency", v["amount"])
		for _, line := range objects(v["lines"]) {
			r.sum("lines_total", line["total"], 1)
		}
		x.enter(r, v["stage"], v["visit"])
	case "updated":
		r.copy(v["to"].(object), "region")
	case "stage_moved":
		x.leave(v["fromVisit"], "moved", v["to"], nil)
		x.enter(r, v["to"], v["toVisit"])
	case "re_estimated":
		r.money("amount", "currency", v["to"])
	case "rescheduled":
		if from := text(v["from"]); from != "" && text(v["to"]) > from {
			r.add("pushes", 1)
		}
	case "line_added", "line_changed", "line_removed":
		r.money("lines_total", "", v["linesTotal"])
	case "won":
		r["status"], r["probability"], r["closed_at"] = "won", 100, x.OccurredAt
		r.money("amount", "currency", v["amount"])
		x.leave(v["visit"], "won", nil, v["amount"])
	case "lost":
		r["status"], r["probability"], r["closed_at"] = "lost", 0, x.OccurredAt
		x.leave(v["visit"], "lost", nil, v["amount"])
	case "reopened":
		r["closed_at"] = nil
		r.money("amount", "currency", v["amount"])
		r.add("reopened", 1)
		x.enter(r, v["stage"], v["visit"])["reopening"] = true
	}
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

// order folds an event of an order: how far it got, its money, and the sums of sales.
func (x *entry) order() {
	r, v := x.record("sales_order"), x.v
	if v["outstanding"] != nil {
		r["outstanding"] = v["outstanding"]
	}
	switch x.what {
	case "placed":
		r.copy(v, "total")
		r["status"], r["outstanding"], r["lines"] = "placed", v["total"], len(objects(v["lines"]))
		for _, line := range objects(v["lines"]) {
			l := x.row("sales_order_line", "order_id", x.id(), "line", line["line"])
			l.copy(v, "customer_id", "kind", "currency")
			l.copy(line, "product_code", "product_id", "description", "quantity", "unit_price", "total")
			l["placed_at"] = x.OccurredAt
		}
		x.sold(1)
	case "confirmed", "shipped", "delivered", "accepted":
		r["status"] = x.what
	case "production_started":
		r["status"] = "in_production"
	case "cancelled":
		r["status"] = "cancelled"
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
		column := "paid"
		if x.what == "payment_refunded" {
			column = "refunded"
		}
		money := v["amount"].(object)
		r.sum(column, money["amount"], 1)
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
