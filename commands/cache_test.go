package commands_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

func TestCacheIsBoundedByCountAndBytes(t *testing.T) {
	for name, opts := range map[string]commands.Options{
		"count": {StreamCacheSize: 5},
		"bytes": {StreamCacheBytes: 8 << 10}, // a member weighs about 1 KiB
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			opts.Clock = w.clock.Now
			b := commands.NewBus(w.store, opts)
			b.Register([]domain.Definition{members.Definition()})
			ids := make([]domain.ID, 40)
			for i := range ids {
				ids[i] = submit(t, b, request(fmt.Sprint("j", i), "", join{Handle: fmt.Sprint(strings.Repeat("h", 30), i)})).ID
			}
			w.store.calls()
			var wg sync.WaitGroup
			for _, at := range []int{39, 0} { // the newest is cached, the oldest is not
				wg.Go(func() { submit(t, b, request(fmt.Sprint("c", at), ids[at], credit{Amount: 1})) })
			}
			wg.Wait()
			if _, reads := w.store.calls(); reads != 1 {
				t.Errorf("%d reads, want the one of the oldest", reads)
			}
			for i, id := range ids { // nothing is lost with what is dropped
				if r := submit(t, b, request(fmt.Sprint("d", i), id, credit{Amount: 1})); r.Revision == 0 {
					t.Errorf("%+v", r)
				}
			}
		})
	}
}
