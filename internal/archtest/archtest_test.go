package archtest

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

func TestModuleFollowsTheRules(t *testing.T) {
	broken, err := Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range broken {
		t.Error(line)
	}
}

// source is a Go file that imports the given packages; those that begin with
// "./" are of this module.
func source(name string, imports ...string) *fstest.MapFile {
	var b strings.Builder
	b.WriteString("package " + name + "\n")
	for _, i := range imports {
		if ours, ok := strings.CutPrefix(i, "./"); ok {
			i = Module + "/" + ours
		}
		b.WriteString("import _ \"" + i + "\"\n")
	}
	return &fstest.MapFile{Data: []byte(b.String())}
}

func TestEachRule(t *testing.T) {
	const client, proto = eventStoreClient + "/v4/esdb", eventStoreClient + "/v4/protos/streams"
	for _, test := range []struct {
		name, file string
		imports    string // separated by spaces
		want       string // part of the one line reported; "" when there is none
	}{
		{"domain is pure", "domain/money.go", "errors time " + decimal, ""},
		{"domain has no libraries", "domain/money.go", "github.com/google/uuid", "domain/money.go:2:8: imports github.com/google/uuid"},
		{"domain knows nobody", "domain/money.go", "./domain/sales/deal", "domain imports nothing"},
		{"aggregate knows the kernel", "domain/sales/deal/deal.go", "./domain", ""},
		{"aggregate knows its parts", "domain/sales/deal/deal.go", "./domain/sales/deal/stage", ""},
		{"aggregate knows no other", "domain/sales/deal/deal.go", "./domain/sales/order", "never another aggregate"},
		{"aggregate with a longer name is another", "domain/sales/deal/deal.go", "./domain/sales/dealer", "never another aggregate"},
		{"the list knows every aggregate", "domain/aggregates/all.go", "./domain/sales/deal ./domain/party/lead", ""},
		{"aggregate knows the values of its area", "domain/sales/deal/deal.go", "./domain/sales", ""},
		{"aggregate knows no values of other areas", "domain/sales/deal/deal.go", "./domain/party", "never another aggregate"},
		{"external test", "domain/sales/deal/deal_test.go", "./domain/sales/deal pgregory.net/rapid ./internal/codec", ""},
		{"aggregate's test knows no other", "domain/sales/deal/deal_test.go", "./domain/sales/order", "never another aggregate"},
		{"test support has libraries", "domain/domaintest/then.go", "./domain github.com/google/go-cmp/cmp", ""},
		{"tests have support", "domain/sales/deal/deal_test.go", "./domain/domaintest", ""},
		{"nobody else has it", "domain/sales/deal/deal.go", "./domain/domaintest", "only tests use it"},
		{"cmd has not either", "cmd/rapport/main.go", "./internal/pgtest", "only tests use it"},

		{"commands", "commands/win.go", "./domain ./domain/sales/deal", ""},
		{"commands have no adapter", "commands/win.go", "./internal/eventlog", "commands may import domain/..."},
		{"commands' processes", "commands/processes/convert.go", "./commands", ""},
		{"commands' tests may", "commands/win_test.go", "./internal/eventlog", ""},
		{"commands never query", "commands/win_test.go", "./readmodels", "commands may import"},

		{"read models know the kernel", "readmodels/deal.go", "./domain " + pgx + "/v5", ""},
		{"read models know no aggregate", "readmodels/deal.go", "./domain/sales/deal", "readmodels may import domain"},

		{"projections", "projections/deal.go", "./domain/sales/deal ./readmodels", ""},
		{"projections do no I/O", "projections/deal.go", "./internal/bus", "projections may import"},
		{"the runner does", "projections/runner/loop.go", "./projections ./internal/bus ./internal/eventlog ./internal/codec ./internal/follow ./internal/retry", ""},
		{"the runner stands on its parts", "projections/runner/loop.go", "./projections/runner/apply ./projections/runner/build ./projections/runner/fault", ""},
		{"applying knows builds", "projections/runner/apply/plan.go", "./projections/runner/build ./projections/runner/fault", ""},
		{"applying knows no loop", "projections/runner/apply/plan.go", "./projections/runner", "projections/runner/apply may import"},
		{"builds know not how they are filled", "projections/runner/build/switch.go", "./projections/runner/apply", "projections/runner/build may import"},
		{"faults know nobody", "projections/runner/fault/fault.go", "./projections/runner/build", "projections/runner/fault may import"},
		{"the runner needs no server", "projections/runner/loop.go", "./internal/localpg", "projections/runner may import"},

		{"api", "api/deal.go", "./commands ./readmodels ./domain/sales/deal", ""},
		{"api has no database", "api/deal.go", pgx + "/v5/pgxpool", "api reads through readmodels"},
		{"api has no log", "api/deal.go", client, "only internal/eventlog"},
		{"api has no adapter", "api/deal.go", "./internal/codec", "api may import"},
		{"api has no projections", "api/deal.go", "./projections", "api may import"},
		{"api is tested on the whole stack", "api/deal_test.go", "./projections ./projections/runner", ""},

		{"internal", "internal/bus/bus.go", "./domain ./internal/eventlog " + watermill + "/message", ""},
		{"internal is below", "internal/bus/bus.go", "./commands", "internal may import domain/..."},
		{"internal is below in tests too", "internal/bus/bus_test.go", "./projections", "internal may import"},

		{"the adapter", "internal/eventlog/log.go", client, ""},
		{"the node speaks the protocol", "internal/esnode/node.go", proto, ""},
		{"the node has no client", "internal/esnode/node.go", client, "only internal/eventlog"},
		{"the node's tests have", "internal/esnode/node_test.go", client, ""},
		{"nobody else has", "cmd/rapport/main.go", client, "only internal/eventlog"},
		{"one package has Watermill", "projections/runner/loop.go", watermill + "/message", "only internal/bus"},
		{"in tests too", "projections/runner/loop_test.go", watermill + "/message", "only internal/bus"},

		{"cmd knows all", "cmd/rapport/main.go", "./api ./commands ./internal/localpg ./projections/runner", ""},
		{"folders are fixed", "services/deal.go", "", "services: not one of the module's folders"},
		{"the root is no package", "rapport.go", "./domain", "no rule says"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := fstest.MapFS{test.file: source("p", strings.Fields(test.imports)...)}
			broken, err := Check(tree)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case test.want == "" && len(broken) > 0:
				t.Errorf("reported %q", broken)
			case test.want != "" && (len(broken) != 1 || !strings.Contains(broken[0], test.want)):
				t.Errorf("reported %q, want one line with %q", broken, test.want)
			}
		})
	}
}

func TestVagueNames(t *testing.T) {
	tree := fstest.MapFS{
		"internal/bus/bus.go":          source("bus"),
		"internal/util/strings.go":     source("util"),
		"internal/x/helpers_test.go":   source("helpers_test"),
		"internal/x/testdata/model.go": source("models"),
		".cache/common.go":             source("common"),
	}
	broken, err := Check(tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"internal/util/strings.go: package util", "internal/x/helpers_test.go: package helpers"}
	if len(broken) != len(want) {
		t.Fatalf("reported %q", broken)
	}
	for i := range want {
		if !strings.HasPrefix(broken[i], want[i]) {
			t.Errorf("reported %q, want %q", broken[i], want[i])
		}
	}
}

func TestUnreadableFileIsAnError(t *testing.T) {
	if _, err := Check(fstest.MapFS{"domain/money.go": {Data: []byte("pakage domain")}}); err == nil {
		t.Error("no error for a file that does not parse")
	}
}
