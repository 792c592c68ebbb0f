package logcopy

import (
	"context"
	"fmt"
	"strings"

	"github.com/rapport-crm/rapport/domain"
)

// shownDifferences is how many streams that differ a comparison names.
const shownDifferences = 10

// Comparison is the digests of two histories.
type Comparison struct {
	From, To    *Digest
	Differences []Difference // the first streams that differ
	Differing   int          // how many streams differ
}

// compared compares two digests.
func compared(from, to *Digest) Comparison {
	c := Comparison{From: from, To: to}
	if from.log != to.log {
		c.Differences, c.Differing = difference(from, to, shownDifferences)
	}
	return c
}

// Equal reports whether both hold the same events in the same streams and in the same order.
func (c Comparison) Equal() bool {
	return c.From != nil && c.To != nil && c.From.log == c.To.log && c.From.events == c.To.events && c.Differing == 0
}

// String says how the two differ.
func (c Comparison) String() string {
	if c.Equal() {
		return "equal"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "the source holds %d events in %d streams, the copy %d in %d; ", c.From.events, len(c.From.streams), c.To.events, len(c.To.streams))
	if c.Differing == 0 {
		b.WriteString("the order of the events differs")
		return b.String()
	}
	fmt.Fprintf(&b, "%d streams differ:", c.Differing)
	for _, d := range c.Differences {
		fmt.Fprintf(&b, " %s (%d and %d events)", d.Stream, d.From, d.To)
	}
	if c.Differing > len(c.Differences) {
		b.WriteString(" …")
	}
	return b.String()
}

// Compare reads a source and a log and compares them.
func Compare(ctx context.Context, from Source, to Log, o Options) (Comparison, error) {
	if o.pause == nil {
		o.pause = wait
	}
	source, err := readSource(ctx, from, o, nil)
	if err != nil {
		return Comparison{}, err
	}
	copied, err := digestOf(readOn(ctx, to, domain.Mark{}, o.pause), PartConfirm, source.events, o, nil)
	if err != nil {
		return Comparison{}, err
	}
	return compared(source, copied), nil
}
