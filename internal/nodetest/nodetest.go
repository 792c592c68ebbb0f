// Package nodetest opens event nodes for tests. With RAPPORT_TEST_NODE=strict in the
// environment they behave as real engines do, so that a suite runs in both manners.
package nodetest

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/internal/esnode"
)

const (
	// Variable chooses the manner of the nodes: "strict", or ordinary without it. Words
	// that begin with a dash leave manners out, as in "strict -busy -foreign"; see without.
	Variable = "RAPPORT_TEST_NODE"
	// SeedVariable repeats what a strict run left to chance. Each test tells its value.
	SeedVariable = "RAPPORT_TEST_NODE_SEED"

	strict = "strict"

	// What follows is often enough to be met by every suite, and small enough for one
	// that waits as it should.
	notReady = 150 * time.Millisecond
	late     = 3 * time.Millisecond
	busy     = 0.02
	foreign  = 0.3
)

// without are the manners that Variable can leave out.
var without = map[string]func(*esnode.Strict){
	"-offsets": func(s *esnode.Strict) { s.Offsets, s.InvalidPositions = false, false },
	"-ready":   func(s *esnode.Strict) { s.NotReady = 0 },
	"-busy":    func(s *esnode.Strict) { s.Busy = 0 },
	"-late":    func(s *esnode.Strict) { s.Late = 0 },
	"-foreign": func(s *esnode.Strict) { s.Foreign = 0 },
}

// Open opens a node and closes it with the test; closing it before is fine. Logs that
// were dialled afterwards are closed first if they, too, are closed by t.Cleanup. Open
// waits until the node takes calls; who was connected before its restart meets a node that
// does not.
func Open(t testing.TB, opts esnode.Options) *esnode.Node {
	t.Helper()
	if Strict() {
		Tell(t)
		name := fnv.New64a()
		_, _ = name.Write([]byte(t.Name())) // never fails
		opts.Strict = Manners(seed() ^ name.Sum64())
	}
	n, err := esnode.Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close node: %v", err)
		}
	})
	if err := n.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n
}

// OpenWithout is esnode.Open in the chosen manner, for programs that run inside a test.
func OpenWithout(ctx context.Context, opts esnode.Options) (*esnode.Node, error) {
	if Strict() {
		opts.Strict = Manners(seed())
	}
	return esnode.Open(ctx, opts)
}

// Strict says whether strict nodes were chosen.
func Strict() bool {
	words := strings.Fields(os.Getenv(Variable))
	return len(words) > 0 && words[0] == strict
}

// Manners are the strict manners that every suite has to bear, but for those that were
// left out.
func Manners(seed uint64) *esnode.Strict {
	s := &esnode.Strict{
		Seed: seed, Offsets: true, InvalidPositions: true, NoIdentity: true, NotReady: notReady, Busy: busy, Late: late,
		Foreign: foreign, Deletion: true, SparseCheckpoints: true,
	}
	for _, word := range strings.Fields(os.Getenv(Variable)) {
		if word == strict {
			continue
		}
		leave, known := without[word]
		if !known {
			panic(fmt.Sprintf("%s: no manner is called %s", Variable, word))
		}
		leave(s)
	}
	return s
}

// Tell logs how to repeat what a strict node leaves to chance in this test.
func Tell(t testing.TB) {
	t.Helper()
	if Strict() {
		t.Logf("%s=%q %s=%d", Variable, os.Getenv(Variable), SeedVariable, seed())
	}
}

// Environ are the variables that a program needs to open its node in the same manner.
func Environ() []string {
	if !Strict() {
		return nil
	}
	return []string{Variable + "=" + os.Getenv(Variable), fmt.Sprintf("%s=%d", SeedVariable, seed())}
}

// seed is one number for the whole process.
var seed = sync.OnceValue(func() uint64 {
	text := os.Getenv(SeedVariable)
	if text == "" {
		return rand.Uint64()
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", SeedVariable, err))
	}
	return n
})
