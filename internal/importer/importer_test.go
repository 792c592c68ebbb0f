package importer

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/domain/aggregates"
	"github.com/rapport-crm/rapport/domain/party/customer"
)

// An invented aggregate: parcels with lines.
type registerParcel struct {
	domain.When
	Name  string         `json:"name"`
	Lines []parcelLine   `json:"lines,omitempty"`
	Total *domain.Amount `json:"total,omitempty"`
	Born  domain.Date    `json:"born,omitempty"`
}

type parcelLine struct {
	Code     string        `json:"code"`
	Quantity domain.Amount `json:"quantity"`
}

type sendParcel struct {
	domain.When
	To string `json:"to"`
}

type weighParcel struct {
	domain.When
	Grams int          `json:"grams" minimum:"0"`
	Parts []parcelPart `json:"parts,omitempty"`
	Floor int          `json:"floor,omitempty"`
}

type parcelPart struct {
	Name  string `json:"name"`
	Grams int    `json:"grams" minimum:"0"`
}

func (registerParcel) CommandType() string { return "parcel.register" }
func (sendParcel) CommandType() string     { return "parcel.send" }
func (weighParcel) CommandType() string    { return "parcel.weigh" }

var definitions = []domain.Definition{{
	Name: "parcel", Plural: "parcels",
	Commands: []domain.CommandSpec{{Example: registerParcel{}, Creates: true}, {Example: sendParcel{}}, {Example: weighParcel{}}},
}}

func keyID(key, aggregate string) domain.ID {
	return domain.ID(uuid.NewSHA1(uuid.NameSpaceOID, []byte(aggregate+key)).String())
}

// bus remembers what was submitted and refuses what it is told to.
type bus struct {
	mu       sync.Mutex
	commands map[string]domain.Command
	refuse   func(Submission) error
}

func (b *bus) submit(_ context.Context, s Submission) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		if err := b.refuse(s); err != nil {
			return false, err
		}
	}
	if b.commands == nil {
		b.commands = map[string]domain.Command{}
	}
	_, known := b.commands[s.Key]
	b.commands[s.Key] = s.Command
	return !known, nil
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func compile(t *testing.T, mapping string, files ...string) (*Plan, error) {
	t.Helper()
	m, err := ParseMapping(strings.NewReader(mapping))
	if err != nil {
		return nil, err
	}
	return Compile(m, files, definitions, keyID)
}

func mustRun(t *testing.T, b *bus, mapping string, files ...string) (Result, string) {
	t.Helper()
	p, err := compile(t, mapping, files...)
	if err != nil {
		t.Fatal(err)
	}
	var rejects bytes.Buffer
	result, err := p.Run(t.Context(), Options{Submit: b.submit, Rejects: &rejects, Writers: 4})
	if err != nil {
		t.Fatal(err)
	}
	return result, rejects.String()
}

const eachRow = `
source: parcels
inputs:
  - file: parcels.csv
    commands:
      - command: parcel.register
        key: row.id
        fields: {name: row.name}
      - command: parcel.send
        key: row.id
        target: id('parcel', row.id)
        when: row.to != ''
        occurredAt: time(row.sent, '2006-01-02', 'Europe/London')
        fields: {to: row.to}
`

func TestEachRowBecomesItsCommands(t *testing.T) {
	var b bus
	file := writeFile(t, "parcels.csv", "id,name,to,sent\n1,Anvil,Oslo,2026-07-01\n2,Rope,,\n")
	result, rejects := mustRun(t, &b, eachRow, file)
	want := Counts{File: "parcels.csv", Rows: 2, Units: 2, Commands: 3, Accepted: 3}
	if diff := cmp.Diff([]Counts{want}, result.Inputs); diff != "" {
		t.Error(diff)
	}
	if rejects != "" {
		t.Errorf("rejects: %s", rejects)
	}
	sent, ok := b.commands["import:parcels:parcel.send:1"].(sendParcel)
	if !ok || sent.To != "Oslo" || sent.OccurredAt.Format("2006-01-02T15:04Z07:00") != "2026-06-30T23:00Z" {
		t.Errorf("sent %+v; the date is one of London in summer", sent)
	}
}

func TestImportingTwiceChangesNothing(t *testing.T) {
	var b bus
	file := writeFile(t, "parcels.csv", "id,name,to,sent\n1,Anvil,Oslo,2026-07-01\n2,Rope,,\n")
	mustRun(t, &b, eachRow, file)
	result, _ := mustRun(t, &b, eachRow, file)
	if c := result.Inputs[0]; c.Accepted != 0 || c.Unchanged != 3 {
		t.Errorf("second import: %+v", c)
	}
}

func TestRejectedRowsAreKeptWithTheirReason(t *testing.T) {
	b := bus{refuse: func(s Submission) error {
		if c, ok := s.Command.(registerParcel); ok && c.Name == "Bomb" {
			return domain.Reject("dangerous", "not by post")
		}
		return nil
	}}
	file := writeFile(t, "parcels.csv", "id,name,to,sent\n1,Bomb,Oslo,2026-07-01\n2,Rope,Rome,yesterday\n3,Tent\n4,Lamp,,\n5,\xff,,\n")
	result, rejects := mustRun(t, &b, eachRow, file)
	want := Counts{File: "parcels.csv", Rows: 5, RowsRejected: 4, Units: 3, Commands: 5, Accepted: 2, Rejected: 2, NotTried: 1}
	if diff := cmp.Diff([]Counts{want}, result.Inputs); diff != "" {
		t.Error(diff)
	}
	for _, part := range []string{"1,parcel.register,dangerous: not by post", "2,parcel.send,", "wrong number of fields,\"3,Tent\"\n", "not valid text", `""id"":""5""`} {
		if !strings.Contains(rejects, part) {
			t.Errorf("rejects lack %q:\n%s", part, rejects)
		}
	}
}

func TestUnreadableRowsAreKeptAsTheyStand(t *testing.T) {
	long := strings.Repeat("x", 20_000) // rows before it have left the reader's buffer
	var b bus
	file := writeFile(t, "parcels.csv", "id;name;to;sent\n1;"+long+";;\n\n2;a \"b\" c;;\n3;'Ten;t';Oslo;;;\n4;Lamp;;\n")
	_, rejects := mustRun(t, &b, strings.Replace(eachRow, "file: parcels.csv", "file: parcels.csv\n    delimiter: \";\"\n    quote: \"'\"", 1), file)
	if !strings.Contains(rejects, ",3;'Ten;t';Oslo;;;\n") || strings.Contains(rejects, "xxx") {
		t.Errorf("rejects: %s", rejects)
	}
	file = writeFile(t, "parcels.csv", "id,name,to,sent\n1,"+long+",,\n2,a \"b\" c,,\n")
	if _, rejects = mustRun(t, &b, eachRow, file); !strings.Contains(rejects, `"2,a ""b"" c,,"`) {
		t.Errorf("rejects: %s", rejects)
	}
	file = writeFile(t, "parcels.csv", "{\"id\":\"1\"\n")
	lines := strings.Replace(eachRow, "file: parcels.csv", "file: parcels.csv\n    format: jsonl", 1)
	if _, rejects = mustRun(t, &b, lines, file); !strings.Contains(rejects, `"{""id"":""1"""`) {
		t.Errorf("rejects: %s", rejects)
	}
}

func TestUnavailableLogStopsTheImport(t *testing.T) {
	down := &domain.UnavailableError{What: "event log"}
	ctx, cancel := context.WithCancel(t.Context())
	b := bus{refuse: func(Submission) error { cancel(); return down }}
	p, err := compile(t, eachRow, writeFile(t, "parcels.csv", "id,name,to,sent\n1,Anvil,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.Run(ctx, Options{Submit: b.submit})
	if err == nil || result.Inputs[0].RowsRejected != 0 {
		t.Errorf("a row was blamed for the outage: %+v, %v", result, err)
	}
}

const grouped = `
source: parcels
inputs:
  - file: lines.csv.gz
    delimiter: ";"
    quote: "'"
    encoding: iso-8859-1
    group: row.parcel
    commands:
      - command: parcel.register
        key: row.parcel
        fields:
          name: row.name
          lines: "rows.map(r, {'code': r.code, 'quantity': r.quantity})"
`

func TestGroupedRowsBecomeOneCommandWithEveryLine(t *testing.T) {
	text := "parcel;name;code;quantity\n7;'Caf\xe9; bar';X;1.5\n8;Zoo;Y;-2\n7;'Caf\xe9; bar';X;1.5\n"
	for i := range MaxOpenGroups {
		text += fmt.Sprintf("x%d;n;c;1\n", i)
	}
	text += "7;late;Z;1\n"
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	w.Write([]byte(text))
	w.Close()
	var b bus
	result, rejects := mustRun(t, &b, grouped, writeFile(t, "lines.csv.gz", packed.String()))
	cafe := b.commands["import:parcels:parcel.register:7"].(registerParcel)
	if cafe.Name != "Café; bar" || len(cafe.Lines) != 2 || cafe.Lines[1].Quantity.String() != "1.5" {
		t.Errorf("parcel 7 is %+v; repeated lines must survive, also when another group's row stands between", cafe)
	}
	c := result.Inputs[0]
	if c.Rows != MaxOpenGroups+4 || c.Units != MaxOpenGroups+2 || c.RowsRejected != 1 || !strings.Contains(rejects, "other groups stand between") {
		t.Errorf("counts %+v, rejects %s", c, rejects)
	}
}

const stateful = `
source: parcels
tables:
  names: {file: names.csv, key: row.id}
inputs:
  - file: log.jsonl
    format: jsonl
    state:
      year: {init: 2008, next: "state.month > int(row.month) ? state.year + 1 : state.year"}
      month: {init: 0, next: int(row.month)}
    let:
      label: lookup('names', row.kind, 'name', 'nameless')
    report:
      - {when: "!known('names', row.kind)", value: row.kind, message: no name for this kind}
    commands:
      - command: parcel.register
        key: row.kind
        once: true
        fields: {name: label, born: "string(date(state.year, state.month, 1)).substring(0, 10)"}
`

func TestStateOnceTablesAndReports(t *testing.T) {
	var b bus
	log := writeFile(t, "log.jsonl", `{"kind":"a","month":11}`+"\n"+`{"kind":"b","month":1}`+"\n"+`{"kind":"b","month":2}`+"\n"+`{"kind":"c","month":1,"month":2}`+"\n")
	result, _ := mustRun(t, &b, stateful, log, writeFile(t, "names.csv", "id,name\na,Anvil\n"))
	got := map[string]domain.Command{
		"import:parcels:parcel.register:a": registerParcel{Name: "Anvil", Born: "2008-11-01"},
		"import:parcels:parcel.register:b": registerParcel{Name: "nameless", Born: "2009-01-01"},
	}
	if diff := cmp.Diff(got, b.commands); diff != "" {
		t.Error(diff)
	}
	want := []Reported{{File: "log.jsonl", Message: "no name for this kind", Value: "b", Units: 2}}
	if diff := cmp.Diff(want, result.Reports); diff != "" {
		t.Error(diff)
	}
	if c := result.Inputs[0]; c.RowsRejected != 1 {
		t.Errorf("a row with a duplicate name was not rejected: %+v", c)
	}
}

func TestBadMappingsAreRefusedWithLineAndColumn(t *testing.T) {
	csv := writeFile(t, "parcels.csv", "id,name\n1,Anvil\n")
	// in is a sound mapping with further lines: from line 4 on of the input, and behind it of the command.
	in := func(input, command string) string {
		return "source: s\ninputs:\n  - file: parcels.csv\n" + input +
			"    commands:\n      - command: parcel.register\n" + command + "        key: row.id\n"
	}
	for _, test := range []struct{ name, mapping, want string }{
		{"unknown member of the mapping", "source: s\ninput: []\n", "line 2"},
		{"no such command", "source: s\ninputs:\n  - file: parcels.csv\n    commands:\n      - command: parcel.burn\n        key: row.id\n", `line 5, column 18: there is no command "parcel.burn"`},
		{"no such member", "source: s\ninputs:\n  - file: parcels.csv\n    commands:\n      - command: parcel.register\n        key: row.id\n        fields:\n          nam: row.name\n", `line 8, column 11: there is no member "nam" here; there are born, lines, name, total`},
		{"no such column", "source: s\ninputs:\n  - file: parcels.csv\n    commands:\n      - command: parcel.register\n        key: row.idd\n", `line 6, column 17: the file has no column "idd"`},
		{"no expression", "source: s\ninputs:\n  - file: parcels.csv\n    commands:\n      - command: parcel.register\n        key: row.id +\n", "line 6, column 22"},
		{"no such function", "source: s\ninputs:\n  - file: parcels.csv\n    commands:\n      - command: parcel.register\n        key: shout(row.id)\n", "line 6, column 19: undeclared reference to 'shout'"},
		{"a target where none belongs", "source: s\ninputs:\n  - file: parcels.csv\n    commands:\n      - command: parcel.register\n        key: row.id\n        target: row.id\n", "line 7, column 17: parcel.register creates"},
		{"a file that was not given", "source: s\ninputs:\n  - file: others.csv\n    commands:\n      - command: parcel.register\n        key: row.id\n", "line 3, column 11: the mapping needs the file others.csv"},
		{"an encoding that nobody knows", "source: s\ninputs:\n  - file: parcels.csv\n    encoding: klingon\n    commands:\n      - command: parcel.register\n        key: row.id\n", `line 4, column 15: encoding "klingon"`},
		{"a format that nobody knows", in("    format: xml\n", ""), "line 4, column 13: format \"xml\" is neither csv nor jsonl"},
		{"a delimiter of two characters", in("    delimiter: ab\n", ""), "line 4, column 16: delimiter"},
		{"a quote that is the delimiter", in("    delimiter: \"'\"\n    quote: \"'\"\n", ""), "line 5, column 12: quote and delimiter are the same"},
		{"an unknown member in the middle of a line", "source: s\ninputs:\n  - {file: parcels.csv, comands: []}\n", "line 3, column 25: field comands not found"},
		{"no source", "inputs: []\n", "line 1, column 1: source"},
		{"a bad source", "inputs: []\nsource: A B\n", "line 2, column 9: source"},
		{"no inputs", "source: s\ninputs: []\n", "line 2, column 9: there are no inputs"},
		{"two documents", in("", "") + "---\nsource: t\n", "more than one document"},
		{"a name without an expression", in("    let:\n      x:\n", ""), "line 5, column 9: x needs an expression"},
		{"names in a list", in("    let: [a, row.id]\n", ""), "line 4, column 10: let is names"},
		{"a name twice", in("    let: {x: row.id, x: row.name}\n", ""), "line 4, column 22: x is there twice"},
		{"a name that has a meaning", in("    let: {row: '5'}\n", ""), "line 4, column 11: row has a meaning of its own"},
		{"no name", in("    let: {a-b: '5'}\n", ""), `line 4, column 11: "a-b" is no name`},
		{"a state without next", in("    state: {x: {init: 0}}\n", ""), "line 4, column 16: a state needs init and next"},
		{"no such member of state", in("    state: {x: {init: 0, next: state.y}}\n", ""), `line 4, column 37: the state has no member "y"`},
		{"a report without a message", in("    report: [{when: 'true'}]\n", ""), "line 4, column 14: a report needs a message"},
		{"a member twice", in("", "        fields: {name: row.id, name: row.name}\n"), "line 6, column 32: name is there twice"},
		{"a condition that is none", in("", "        when: size(row.id)\n"), "line 6, column 15: a bool is wanted here, and this gives a int"},
		{"no such aggregate", in("", "        fields: {name: \"id('parcle', row.id)\"}\n"), `line 6, column 28: the program has no aggregate "parcle"`},
		{"no such table", in("", "        when: known('nmaes', row.id)\n"), `line 6, column 21: the mapping has no table "nmaes"`},
		{"no such column of a table", "tables: {names: {file: parcels.csv, key: row.id}}\n" + in("", "        fields: {name: \"lookup('names', row.id, 'nme', '')\"}\n"), `line 7, column 49: the table has no column "nme"`},
		{"a table without a key", "tables: {names: {file: parcels.csv}}\n" + in("", ""), "line 1, column 17: a table needs a file and a key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := compile(t, test.mapping, csv)
			var mapping *MappingError
			if !errors.As(err, &mapping) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a MappingError with %q", err, test.want)
			}
		})
	}
}

func FuzzParseMapping(f *testing.F) {
	f.Add(eachRow)
	f.Add(grouped)
	f.Add(stateful)
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMapping(strings.NewReader(text))
		if err == nil {
			Compile(m, nil, definitions, keyID)
		}
	})
}

// Rows of one record were submitted side by side, so that the last of them did not always win.
func TestReproRowsOfOneRecordKeepTheirOrder(t *testing.T) {
	const rows = 400
	text := "id,parcel,to\n"
	for i := range rows {
		text += fmt.Sprintf("%d,%d,place %d\n", i, i%2, i)
	}
	var mu sync.Mutex
	under, order := map[domain.ID]int{}, map[domain.ID][]string{}
	submit := func(_ context.Context, s Submission) (bool, error) {
		id, to := s.Target, ""
		switch c := s.Command.(type) {
		case registerParcel:
			id, to = keyID(s.Key, "parcel"), "made"
		case sendParcel:
			to = c.To
		}
		mu.Lock()
		under[id]++
		if under[id] > 1 {
			t.Errorf("%s is submitted while another command for the same record is under way", to)
		}
		order[id] = append(order[id], to)
		mu.Unlock()
		runtime.Gosched()
		mu.Lock()
		defer mu.Unlock()
		under[id]--
		return true, nil
	}
	p, err := compile(t, `
source: parcels
inputs:
  - file: parcels.csv
    commands:
      - {command: parcel.register, key: row.parcel, once: true, fields: {name: row.parcel}}
      - {command: parcel.send, key: row.id, target: "id('parcel', row.parcel)", fields: {to: row.to}}
`, writeFile(t, "parcels.csv", text))
	if err != nil {
		t.Fatal(err)
	}
	result, err := p.Run(t.Context(), Options{Submit: submit, Writers: 16})
	if err != nil || result.Inputs[0].Accepted != rows+2 {
		t.Fatalf("%+v, %v", result, err)
	}
	for parcel := range 2 {
		want := []string{"made"}
		for i := parcel; i < rows; i += 2 {
			want = append(want, fmt.Sprintf("place %d", i))
		}
		if diff := cmp.Diff(want, order[keyID(fmt.Sprintf("import:parcels:parcel.register:%d", parcel), "parcel")]); diff != "" {
			t.Errorf("the order of parcel %d: %s", parcel, diff)
		}
	}
}

// Rows that had nothing to submit waited for the one that submits their record, until no writer was left for another record.
func TestReproRowsThatSubmitNothingKeepNoWriter(t *testing.T) {
	const writers = 2
	second := make(chan struct{})
	submit := func(ctx context.Context, s Submission) (bool, error) {
		if s.Command.(registerParcel).Name == "second" {
			close(second)
			return true, nil
		}
		select {
		case <-second:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	p, err := compile(t, `
source: parcels
inputs:
  - file: parcels.csv
    commands:
      - {command: parcel.register, key: row.name, once: true, fields: {name: row.name}}
`, writeFile(t, "parcels.csv", "name\n"+strings.Repeat("first\n", 1+2*writers)+"second\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	result, err := p.Run(ctx, Options{Submit: submit, Writers: writers})
	if err != nil || result.Inputs[0].Accepted != 2 {
		t.Fatalf("%+v, %v", result, err)
	}
}

// Rows without a key passed for one, and all but the first were counted as unchanged.
func TestReproRowsWithoutAKeyAreRejected(t *testing.T) {
	file := writeFile(t, "parcels.csv", "id,name,to,sent\n,Anvil,,\n,Anvil,,\n7,Rope,,\n")
	for _, mapping := range []string{eachRow, strings.Replace(eachRow, "file: parcels.csv", "file: parcels.csv\n    group: row.id", 1)} {
		var b bus
		result, rejects := mustRun(t, &b, mapping, file)
		if c := result.Inputs[0]; c.Rows != 3 || c.RowsRejected != 2 || c.Accepted != 1 || c.Unchanged != 0 || strings.Count(rejects, "is empty") != 2 {
			t.Errorf("%+v\n%s", c, rejects)
		}
	}
}

// Numbers of JSON were changed to what a float64 holds: two long ids became the same one, and an id of a million or more
// got an exponent.
func TestReproNumbersOfJSONAreExact(t *testing.T) {
	mapping := `
source: parcels
inputs:
  - file: log.jsonl
    format: jsonl
    commands:
      - {command: parcel.register, key: row.id, fields: {name: string(row.id), total: string(row.total)}}
      - {command: parcel.send, key: row.id, target: "id('parcel', string(row.id))", fields: {to: "'Oslo'"}}
`
	file := writeFile(t, "log.jsonl", `{"id":9007199254740993,"total":0.1}
{"id":9007199254740992,"total":"12345678901234567.891"}
{"id":1234567,"total":1234567.5}

null
{"id":5,"total":12345678901234567.8910}
[6]
{"id":7,"total":{"a":1}}
`)
	var b bus
	result, rejects := mustRun(t, &b, mapping, file)
	want := Counts{File: "log.jsonl", Rows: 7, RowsRejected: 3, Units: 5, Commands: 10, Accepted: 8, Rejected: 1, NotTried: 1}
	if diff := cmp.Diff([]Counts{want}, result.Inputs); diff != "" {
		t.Errorf("%s\n%s", diff, rejects)
	}
	for _, part := range []string{"log.jsonl,5,,null is no object,null\n", "log.jsonl,7,", "log.jsonl,8,parcel.register"} {
		if !strings.Contains(rejects, part) {
			t.Errorf("rejects lack %q:\n%s", part, rejects)
		}
	}
	for id, total := range map[string]string{"9007199254740993": "0.1", "9007199254740992": "12345678901234567.891", "1234567": "1234567.5", "5": "12345678901234567.891"} {
		made, _ := b.commands["import:parcels:parcel.register:"+id].(registerParcel)
		if made.Name != id || made.Total == nil || made.Total.String() != total {
			t.Errorf("%s became %+v", id, made)
		}
		if b.commands["import:parcels:parcel.send:"+id] == nil {
			t.Errorf("%s was not sent", id)
		}
	}
}

// A row without end took the rest of the file into memory, and a long line of JSON ended the import.
func TestReproRowsThatAreTooLongAreRejected(t *testing.T) {
	const rows = 30
	var text, lines strings.Builder
	text.WriteString("id,name,to,sent\n")
	for i := range rows {
		name := fmt.Sprint("Rope ", i)
		switch i {
		case 3:
			name = strings.Repeat("x", 3*MaxRowBytes)
		case 20: // and takes the rows behind it along, as far as a row may go
			name = "\"Anvil,,\n" + strings.Repeat("20,Anvil,,\n", MaxRowBytes/11+1000) // more than a reader's buffer
		}
		fmt.Fprintf(&text, "%d,%s,,\n", i, name)
		if i != 20 {
			fmt.Fprintf(&lines, "{\"id\":\"%d\",\"name\":\"%s\"}\n", i, name)
		}
	}
	asLines := "source: parcels\ninputs:\n  - file: parcels.csv\n    format: jsonl\n    commands:\n      - {command: parcel.register, key: row.id, fields: {name: row.name}}\n"
	for mapping, text := range map[string]string{eachRow: text.String(), asLines: lines.String()} {
		var b bus
		result, rejects := mustRun(t, &b, mapping, writeFile(t, "parcels.csv", text))
		c := result.Inputs[0]
		if c.Rows != c.RowsRejected+c.Accepted+c.Unchanged || !strings.Contains(rejects, "parcels.csv,4,,the row has more than 1048576 bytes") {
			t.Errorf("%+v\n%.200s", c, rejects)
		}
		for i := range rows {
			made, ok := b.commands[fmt.Sprint("import:parcels:parcel.register:", i)].(registerParcel)
			if wanted := i != 3 && i != 20; ok != wanted && i != 20 || wanted && made.Name != fmt.Sprint("Rope ", i) {
				t.Errorf("row %d became %.50v", i, made)
			}
		}
		if len(rejects) > 4*maxRawBytes {
			t.Errorf("%d bytes of rejects", len(rejects))
		}
	}
}

func TestFilesThatAreNotWhatIsDeclaredAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "the file is empty",
		"id,name,id\n1,Anvil,2\n": `there are two columns "id"`,
		"id,na\xffme\n1,Anvil\n":  "the name of column 2 is not valid text",
	} {
		if _, err := compile(t, eachRow, writeFile(t, "parcels.csv", text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	var b bus
	japanese := strings.Replace(eachRow, "file: parcels.csv", "file: parcels.csv\n    encoding: shift_jis", 1)
	result, rejects := mustRun(t, &b, japanese, writeFile(t, "parcels.csv", "id,name,to,sent\n1,\x83e\x83X\x83g,,\n2,\x83\xff,,\n"))
	if c := result.Inputs[0]; c.Accepted != 1 || c.RowsRejected != 1 || !strings.Contains(rejects, "column name is not valid text") {
		t.Errorf("%+v\n%s", c, rejects)
	}
	if made := b.commands["import:parcels:parcel.register:1"].(registerParcel); made.Name != "テスト" {
		t.Errorf("made %+v", made)
	}
}

func TestProgressHasTheLastWord(t *testing.T) {
	var last Progress
	p, err := compile(t, eachRow, writeFile(t, "parcels.csv", "id,name,to,sent\n1,Anvil,Oslo,2026-07-01\n2,Rope,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), Options{Submit: new(bus).submit, Progress: func(p Progress) { last = p }}); err != nil {
		t.Fatal(err)
	}
	if !last.Ended || last.Rows != 2 || last.Commands != 3 || last.Rate <= 0 || last.Remaining != 0 || last.Read != last.Size || last.Pass != 1 || last.Passes != 1 {
		t.Errorf("the last word was %+v", last)
	}
}

// TestDocumentedMappingIsSound compiles and runs the mapping that docs/importing.md shows.
func TestDocumentedMappingIsSound(t *testing.T) {
	text, err := os.ReadFile("../../docs/importing.md")
	if err != nil {
		t.Fatal(err)
	}
	_, behind, _ := strings.Cut(string(text), "```yaml\n")
	shown, _, _ := strings.Cut(behind, "```")
	m, err := ParseMapping(strings.NewReader(shown))
	if err != nil {
		t.Fatal(err)
	}
	files := []string{
		writeFile(t, "regions.csv", "code,name\nn,North\n"),
		writeFile(t, "customers.csv", "id,name,since,region\n1,Anvil Works,2026-07-01,n\n"),
		writeFile(t, "moves.csv", "deal;stage;by\n7;engaging;\n7;proposal;ann\n7;;ann\n"),
	}
	p, err := Compile(m, files, aggregates.All(), keyID)
	if err != nil {
		t.Fatal(err)
	}
	var b bus
	result, err := p.Run(t.Context(), Options{Submit: b.submit})
	if err != nil {
		t.Fatal(err)
	}
	want := Result{
		Source:  "shop",
		Inputs:  []Counts{{File: "customers.csv", Rows: 1, Units: 1, Commands: 1, Accepted: 1}, {File: "moves.csv", Rows: 3, Units: 3, Commands: 2, Accepted: 2}},
		Reports: []Reported{{File: "moves.csv", Message: "nobody moved it", Value: "7", Units: 1}},
	}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Error(diff)
	}
	if made := b.commands["import:shop:customer.register:1"].(customer.Register); made.Region != "North" || made.OccurredAt.Hour() != 22 {
		t.Errorf("made %+v", made)
	}
}
