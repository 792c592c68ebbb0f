package leaktest

import (
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// leaving is tests that leave a goroutine.
type leaving func()

func (l leaving) Run() int {
	go l()
	return 0
}

func TestGoroutinesThatAreEndingAreWaitedFor(t *testing.T) {
	const patience = 3 * time.Second // several times what goleak has
	for name, c := range map[string]struct {
		left time.Duration
		ends bool
	}{
		"ending": {patience - time.Second, true},
		"left":   {2 * patience, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				others, stop := goleak.IgnoreCurrent(), make(chan struct{})
				defer close(stop)
				code := settled{leaving(func() {
					select {
					case <-time.After(c.left):
					case <-stop:
					}
				}), patience, []goleak.Option{others}}.Run()
				if err := goleak.Find(others); code != 0 || (err == nil) != c.ends {
					t.Errorf("exit code %d, %v", code, err)
				}
			})
		})
	}
}
