// Package porttest finds addresses for servers that tests stop and start again.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The ports from first to before end. Systems hand out others to whoever asks
// for any: Linux those from 32768 on, most from 49152 on.
const (
	first = 20_000
	end   = 30_000
	// attempts bounds the search for one that is free.
	attempts = 100
)

// Address returns a host:port of loopback where nobody listens. A server that was
// given any port may find it taken when it starts again: by then another process
// may have asked for any. This one is given to nobody who does not name it.
func Address(t testing.TB) string {
	t.Helper()
	var err error
	for range attempts {
		address := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(end-first))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return address
	}
	t.Fatalf("no port is free: %v", err)
	return ""
}
