package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/EventStore/EventStore-Client-Go/v4/esdb"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/esnode"
	"github.com/rapport-crm/rapport/internal/eventlog"
)

// verb runs a command line inside the test.
func verb(t testing.TB, args ...string) (code int, out, diagnostics string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// done runs a command line that ends well, and returns what it printed.
func done(t testing.TB, args ...string) string {
	t.Helper()
	code, out, diagnostics := verb(t, args...)
	if code != exitDone {
		t.Fatalf("rapport %s ended with %d: %s\n%s", strings.Join(args, " "), code, out, diagnostics)
	}
	return out
}

func hexSecret(t testing.TB, data string) string {
	t.Helper()
	key, err := os.ReadFile(filepath.Join(data, secretFile))
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(key)
}

// Positions and cursors are of one log, and are no part of what is compared.
var ofOneLog = regexp.MustCompile(`"(position|next)":("[^"]*"|[0-9]+)`)

// pastQueries are queries for every route that is answered as of the past, with the ids of records that a server has.
func pastQueries(t *testing.T, s *server) []string {
	t.Helper()
	type parameter struct {
		Name, In string
		Required bool
		Example  any
	}
	document := get[struct {
		Paths map[string]map[string]struct{ Parameters []parameter }
	}](s, "/openapi.json")
	known := map[string][]string{}
	var list []string
	for path, item := range document.Paths {
		operation, ok := item["get"]
		if path == "/v1/log-times" {
			continue // tells the positions of times
		}
		if !ok || !slices.ContainsFunc(operation.Parameters, func(p parameter) bool { return p.Name == "asOf" }) {
			continue
		}
		values := url.Values{}
		for _, p := range operation.Parameters {
			switch {
			case p.In == "query" && p.Required:
				values.Set(p.Name, fmt.Sprint(p.Example))
			case p.Name == "limit":
				values.Set("limit", "100")
			case p.Name == "count":
				values.Set("count", "exact")
			}
		}
		before, after, single := strings.Cut(path, "{id}")
		if strings.Contains(before+after, "{") {
			continue
		}
		paths := []string{path}
		if single {
			if known[before] == nil {
				known[before] = ids(s, strings.TrimSuffix(before, "/"))
			}
			paths = nil
			for _, id := range known[before] {
				paths = append(paths, before+id+after)
			}
		}
		for _, path := range paths {
			list = append(list, path+"?"+values.Encode())
		}
	}
	slices.Sort(list)
	return list
}

// ids returns the ids of a few records of a collection; none where it cannot be listed.
func ids(s *server, collection string) (some []string) {
	page, err := fetch[list[map[string]any]](s.t.Context(), s.url, collection, "limit", "3")
	if err != nil {
		return []string{}
	}
	for _, record := range page.Items {
		if id, ok := record["id"].(string); ok {
			some = append(some, id)
		}
	}
	return some
}

// pastAnswer is what a server answers, without what is of one log.
func pastAnswer(t *testing.T, server, query string) string {
	t.Helper()
	for {
		response, err := http.Get(server + query)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		if response.StatusCode == http.StatusServiceUnavailable && t.Context().Err() == nil {
			continue // the read models are on their way
		}
		text := string(body)
		if response.StatusCode != http.StatusOK { // a problem names the request
			text = ""
		}
		return fmt.Sprint(response.StatusCode, " ", ofOneLog.ReplaceAllString(text, `"$1":""`))
	}
}

// What is answered as of a time is the same, byte for byte, on a log and on its copy, which went through a file.
func TestServerOfACopyAnswersAsThatOfTheLog(t *testing.T) {
	t.Parallel()
	from := serve(t, "--sample")
	from.catchUp()
	early := time.Now().UTC().Format(time.RFC3339Nano)
	submit := func(path, key, body string) string {
		t.Helper()
		r, err := command(t.Context(), from.url, path, key, body)
		if err != nil {
			t.Fatal(err)
		}
		return string(r.ID)
	}
	anvil := submit("/v1/customers", "1", `{"kind":"company","name":"Anvil Works","owner":"ann","email":"anvil@example.com"}`)
	double := submit("/v1/customers", "2", `{"kind":"company","name":"Anvil Wroks"}`)
	deal := submit("/v1/opportunities", "3", `{"name":"Forge","customerId":"`+double+`","owner":"ann","amount":{"amount":"900.50","currency":"EUR"}}`)
	submit("/v1/opportunities/"+deal+"/move-stage", "4", `{"stage":"engaging"}`)
	submit("/v1/opportunities/"+deal+"/win", "5", `{"amount":{"amount":"1000","currency":"EUR"}}`)
	submit("/v1/customers/"+anvil+"/merge", "6", `{"duplicateId":"`+double+`","reason":"same company"}`)
	from.catchUp()
	late := time.Now().UTC().Format(time.RFC3339Nano)

	file, data := filepath.Join(t.TempDir(), "log.rapport"), t.TempDir()
	done(t, "log", "export", file, "--data", from.data) // while the server runs
	done(t, "log", "verify", file)
	done(t, "log", "import", file, "--data", data, "--secret", hexSecret(t, from.data))
	if hexSecret(t, data) != hexSecret(t, from.data) {
		t.Error("the key of reservations is not kept in the new directory")
	}
	to := serveOn(t, data)
	to.catchUp()
	if out := done(t, "log", "verify", "--data", from.data, "--to", storeOf(t, to)); !strings.Contains(out, "equal") {
		t.Errorf("verified: %s", out)
	}

	queries := pastQueries(t, from)
	ok := 0
	for _, q := range append(queries, "/v1/customers/"+anvil+"/360?", "/v1/customers/"+anvil+"/history?limit=100", "/v1/opportunities/"+deal+"?") {
		for _, moment := range []string{"asOf=" + early, "asOf=" + late, "axis=occurred&asOf=2026-01-15T12:00:00Z", "axis=occurred&asOf=" + late} {
			query := q + "&" + moment
			want := pastAnswer(t, from.url, query)
			if strings.HasPrefix(want, "200") {
				ok++
			}
			if got := pastAnswer(t, to.url, query); got != want {
				t.Errorf("GET %s (-log +copy):\n%s", query, cmp.Diff(want, got))
			}
		}
	}
	t.Logf("%d queries, of which %d were answered", 4*(len(queries)+3), ok)
	if len(queries) < 50 || ok < 2*len(queries) {
		t.Errorf("%d queries and %d answers compare too little", len(queries), ok)
	}

	// The copy finds values that are taken.
	if _, err := command(t.Context(), to.url, "/v1/customers", "7", `{"kind":"company","name":"Third","email":"anvil@example.com"}`); err == nil || !strings.Contains(err.Error(), "409") {
		t.Errorf("an e-mail that is taken: %v", err)
	}
}

// storeOf returns the connection string of the event log of a server.
func storeOf(t testing.TB, s *server) string {
	t.Helper()
	r, err := (stores{Data: s.data}).running()
	if err != nil {
		t.Fatal(err)
	}
	return r.EventStore
}

// A log of before there were namespaces notes no secret: its reservations tell whether one is right.
func TestServerProvesTheSecretOfALogOfBefore(t *testing.T) {
	t.Parallel()
	from := serve(t)
	if _, err := command(t.Context(), from.url, "/v1/customers", "1", `{"kind":"company","name":"Anvil","email":"anvil@example.com"}`); err != nil {
		t.Fatal(err)
	}
	old, where := formerLog(t, storeOf(t, from))
	file := filepath.Join(t.TempDir(), "log.rapport")
	code, _, diagnostics := verb(t, "log", "export", file, "--eventstore", old, "--secret", strings.Repeat("ab", secretBytes))
	if code != exitFailed || !strings.Contains(diagnostics, eventlog.ErrOtherSecret.Error()) {
		t.Errorf("with another secret it ended with %d: %s", code, diagnostics)
	}
	done(t, "log", "export", file, "--eventstore", old, "--data", from.data)
	var proof struct {
		Source eventlog.Identity
	}
	if err := json.Unmarshal([]byte(done(t, "log", "verify", file, "--json")), &proof); err != nil {
		t.Fatal(err)
	}
	key, err := hex.DecodeString(hexSecret(t, from.data))
	if err != nil {
		t.Fatal(err)
	}
	if want := (eventlog.Identity{ID: where, Secret: eventlog.SecretCheck(key)}); proof.Source != want {
		t.Errorf("the file is of %+v, want %+v", proof.Source, want)
	}
}

// formerLog writes the events of a log into a node as an installation of before there were namespaces had them, and returns
// its connection string and its identity.
func formerLog(t *testing.T, source string) (at, id string) {
	t.Helper()
	node, err := esnode.Open(t.Context(), esnode.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { equal(t, "closing the node", node.Close(), nil) })
	config, err := esdb.ParseConnectionString(node.ConnectionString())
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = esdb.NoopLogging()
	client, err := esdb.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	from, err := eventlog.Dial(t.Context(), source, eventlog.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for raw, err := range from.ReadAll(context.WithoutCancel(t.Context()), domain.Position{}) {
		if err != nil {
			t.Fatal(err)
		}
		expected := esdb.ExpectedRevision(esdb.NoStream{})
		if raw.Revision > 0 {
			expected = esdb.Revision(raw.Revision - 1)
		}
		_, err := client.AppendToStream(t.Context(), raw.Stream, esdb.AppendToStreamOptions{ExpectedRevision: expected},
			esdb.EventData{EventID: uuid.MustParse(raw.ID), EventType: raw.Type, ContentType: esdb.ContentTypeJson, Data: raw.Data, Metadata: raw.Metadata})
		if err != nil {
			t.Fatal(err)
		}
	}
	return node.ConnectionString(), node.LogID()
}
