package query

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/rapport-crm/rapport/internal/pgtest"
)

// TestReproAStartWaitsForASlowDatabase: a server did not start when its database took longer for the first connection than a
// query may wait for one.
func TestReproAStartWaitsForASlowDatabase(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := u.Host
	u.Host, u.RawQuery = l.Addr().String(), u.RawQuery+"&connect_timeout=60"
	var group sync.WaitGroup
	defer group.Wait()
	defer l.Close()
	group.Go(func() {
		for first := true; ; first = false {
			client, err := l.Accept()
			if err != nil {
				return
			}
			if first {
				<-time.After(AcquireTimeout) // a query that waits for this connection has given it up by now
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			group.Go(func() { io.Copy(server, client); server.Close() })
			group.Go(func() { io.Copy(client, server); client.Close() })
		}
	})
	s, err := Open(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}
