package main

import (
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/nodetest"
	"github.com/rapport-crm/rapport/readmodels/party"
)

// TestServerOnANearlyFullDiskRefusesCommandsOnly shows what docs/operations.md promises of a disk that is nearly full: commands answer
// 503, what was executed already is found by its key, queries go on, and so do commands when there is space again, in the same
// processes and with the key that was refused.
func TestServerOnANearlyFullDiskRefusesCommandsOnly(t *testing.T) {
	t.Parallel()
	const plenty, little = 1 << 40, 63 << 20
	var free atomic.Uint64
	free.Store(plenty)
	node := nodetest.Open(t, esnode.Options{
		Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler), FreeSpace: func() (uint64, error) { return free.Load(), nil },
	})
	s, ctx := serve(t, "--eventstore", node.ConnectionString(), "--secret", strings.Repeat("5a", secretBytes)), t.Context()
	first, err := command(ctx, s.url, "/v1/customers", "before", registration("before"))
	if err != nil {
		t.Fatal(err)
	}

	free.Store(little)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/customers", strings.NewReader(registration("during")))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Idempotency-Key", "during")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "closing the answer", response.Body.Close(), nil)
	equal(t, "status", response.StatusCode, http.StatusServiceUnavailable)
	if response.Header.Get("Retry-After") == "" || !strings.Contains(string(text), "unavailable") {
		t.Errorf("the answer is %v %s", response.Header, text)
	}
	again, err := command(ctx, s.url, "/v1/customers", "before", registration("before"))
	if err != nil || again.ID != first.ID {
		t.Errorf("what was executed before the disk was full is answered with %+v, %v", again, err)
	}
	profile := get[party.Customer](s, "/v1/customers/"+string(first.ID), "minPosition", first.Position.String())
	equal(t, "name", profile.Name, "Client before")

	free.Store(plenty)
	made, err := command(ctx, s.url, "/v1/customers", "during", registration("during"))
	if err != nil {
		t.Fatal(err)
	}
	profile = get[party.Customer](s, "/v1/customers/"+string(made.ID), "minPosition", made.Position.String())
	equal(t, "name", profile.Name, "Client during")
}
