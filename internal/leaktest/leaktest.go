// Package leaktest fails test binaries that leave goroutines behind.
package leaktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds the wait for goroutines that are ending. What closes a
// connection does not always wait for those that served it, and goleak alone
// gives them less than half a second, which a loaded machine may not have.
const patience = 30 * time.Second

// Main runs the tests of a package and exits. It fails when goroutines are left
// that do not end. A package says so in its TestMain:
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(settled{m, patience, options}, options...)
}

// settled is tests that end when the goroutines they left have had their time.
type settled struct {
	tests    goleak.TestingM
	patience time.Duration
	options  []goleak.Option
}

// Run implements goleak.TestingM.
func (s settled) Run() int {
	code := s.tests.Run()
	deadline := time.Now().Add(s.patience)
	for code == 0 && goleak.Find(s.options...) != nil && time.Now().Before(deadline) {
	}
	return code
}
