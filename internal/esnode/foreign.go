package esnode

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// maxForeign bounds the events that foreign applications write from one start of a node
// to the next.
const maxForeign = 10_000

// defaultNamespaces are where foreign applications never write, when nobody says.
var defaultNamespaces = []string{"rapport."}

// foreignStreams are names of streams of other applications; %s is a UUID. Some nearly
// have the form of ours.
var foreignStreams = []string{
	"order-%s", "shopping cart %s", "Bestellung-größer-%s", "受注-%s", "no dash", "-", ".", "..", "-%s", "%s", "a/b/../c", "a|b@c",
	"rapport-%s", "rapport", "rapportx.main.customer-%s", "Rapport.main.customer-%s", "rapport_main.customer-%s",
	"main.customer", "main.customer-", "main.customer-1", "main.customer-%s-1", "main.customer.%s", "main-customer-%s",
	"main..customer-%s", " main.customer-%s", "mainx.customer-%s", "other.main.customer-%s", "other.customer-%s",
	"$et-order.placed", "$ce-order", "$$order-%s",
}

// foreignTypes are types of their events. Some are names of ours, some are the engine's.
var foreignTypes = []string{
	"OrderPlaced", "order placed", "заказ", "-", "customer.registered", "customer.renamed", "opportunity.won", "interaction.logged",
	"lead.captured", "case.opened", "tenant.configured", eventTypeLink, "$statistics", "$UserCreated", "$metadata-changed",
}

// foreignTexts are metadata and data of their events: none, no JSON, broken JSON, JSON of
// another form than ours, and what cannot be text.
var foreignTexts = []string{
	"", "plain text", "{", `{"a":`, "null", "[]", "42", `"text"`, `{}`, `{"$correlationId":"1","schema":"one"}`, `{"schema":1}`,
	`{"commandId":7,"actor":null,"tenant":"main"}`, `{"$maxAge":"soon"}`, "\x00\x01\x02", "\xff\xfe{}", "0@order-1", "-1@", "7@no such stream",
}

// foreignApplications writes events of other applications beside those of the node's
// clients, until the node stops.
func (m *manners) foreignApplications() {
	if m.Foreign <= 0 {
		return
	}
	w := foreignWriter{manners: m, dice: newDice(m.Seed, diceForeign), spared: m.Namespaces}
	if w.spared == nil {
		w.spared = defaultNamespaces
	}
	woken := m.store.head.watch("")
	defer m.store.head.unwatch(woken)
	for written := 0; written < maxForeign; {
		select {
		case <-woken.C:
		case <-m.store.stop:
			return
		}
		// The commit that this causes wakes it again: the share stays below 1, so it ends.
		for ; w.dice.chance(m.Foreign / (1 + m.Foreign)); written++ {
			if w.write() != nil {
				return // the node stops, or has failed
			}
		}
	}
}

// foreignWriter is one other application after the other.
type foreignWriter struct {
	*manners
	dice   *dice
	spared []string
}

func (w *foreignWriter) write() error {
	name := w.pick(foreignStreams)
	if strings.Contains(name, "%s") {
		name = fmt.Sprintf(name, w.id())
	}
	for _, prefix := range w.spared {
		if strings.HasPrefix(name, prefix) {
			return nil
		}
	}
	event := newProposed(name, w.id(), w.pick(foreignTypes), w.dice.chance(0.5), []byte(w.pick(foreignTexts)), []byte(w.pick(foreignTexts)))
	_, err := w.store.append(context.Background(), name, expectAny, []proposed{event})
	return err
}

func (w *foreignWriter) pick(list []string) string { return list[w.dice.below(len(list))] }

// id is a random UUID that the seed decides.
func (w *foreignWriter) id() uuid.UUID {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:8], w.dice.bits())
	binary.BigEndian.PutUint64(id[8:], w.dice.bits())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}
