package projections_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/shopspring/decimal"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/pgtest"
	"github.com/rapport-crm/rapport/projections/projection"
)

// everything has a column of each type that a row may have.
type everything struct {
	Tenant   domain.Tenant     `db:"tenant,key"`
	ID       domain.ID         `db:"id,key"`
	Text     string            `db:"text"`
	Other    *domain.ID        `db:"other"`
	Day      *domain.Date      `db:"day"`
	Amount   domain.Amount     `db:"amount"`
	Price    *domain.Amount    `db:"price"`
	At       time.Time         `db:"at"`
	Later    *time.Time        `db:"later"`
	Count    int               `db:"count"`
	Position int64             `db:"position"`
	Size     uint32            `db:"size"`
	Share    float64           `db:"share"`
	Open     bool              `db:"open"`
	Names    []string          `db:"names"`
	Map      map[string]string `db:"map"`
}

type odd struct{ rows []everything }

func (odd) EventType() string { return "odd.recorded" }

// D5 of docs/faults.md.
func TestRowsAreTheSameByCopyAndByStatement(t *testing.T) {
	id := func(n int) domain.ID { return number(n, 0xd) }
	var rows []everything
	for i, text := range []string{
		"0", "1", "-1", "10", "100", "9999", "10000", "10001", "-10000", "12345678", "100000000", "999999999999999999", "-999999999999999999.999999",
		"0.1", "0.01", "0.001", "0.0001", "0.00001", "0.000001", "-0.05", "1.5", "12.345", "10000.0001", "65536.6",
	} {
		amount := domain.NewAmount(decimal.RequireFromString(text))
		rows = append(rows, everything{
			Tenant: "main", ID: id(i), Text: "O'Neill \\ \t\n Zoë " + text, Amount: amount, Price: &amount, Count: -i, Position: int64(i) << 40,
			Size: uint32(i), Share: float64(i) / 3, Open: i%2 == 0, At: time.Date(1900+10*i, time.February, 28, 23, 59, 59, 999_999_000, time.UTC),
			Names: []string{"a\"b", "ü"}, Map: map[string]string{"b": "2", "a": "1"},
		})
	}
	rows[1].Price, rows[2].Names, rows[2].Map = nil, nil, nil
	rows[3].Other = new(id(99))
	rows[4].Other = new(domain.ID("0198C0DE-ABCD-7000-8000-00000000ABCD"))
	for i, day := range []domain.Date{"2000-01-01", "1999-12-31", "2024-02-29", "0001-01-01", "9999-12-31", "1582-10-10"} {
		rows[i].Day = &day
		rows[i].Later = new(time.Date(1, time.January, 1, 0, 0, 0, 0, time.UTC).AddDate(1_000*i, 0, 0))
	}
	conn := connect(t)
	var stored []string
	for _, bulk := range []int{0, 1} {
		stored = append(stored, storeOdd(t, conn, rows, bulk))
	}
	if diff := cmp.Diff(stored[0], stored[1]); diff != "" {
		t.Error(diff)
	}
	if len(stored[0]) < 1_000 {
		t.Errorf("nothing was stored: %s", stored[0])
	}
}

// storeOdd stores the rows in a table of their own and returns what PostgreSQL then has, as text.
func storeOdd(t *testing.T, conn *pgx.Conn, rows []everything, bulk int) (text string) {
	t.Helper()
	c, err := projection.Append[everything]{
		Name: "odd", Version: 1 + bulk, Doc: "Odd rows.", Events: []string{"odd."},
		Rows: func(e domain.Recorded) []everything { return e.Event.(odd).rows },
	}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range c.Table.CreateSQL() {
		exec(t, conn, sql)
	}
	engine := c.NewEngine(1)
	engine.Reset(true)
	step, err := engine.Begin([]domain.Recorded{{Event: odd{rows}}})
	if err != nil {
		t.Fatal(err)
	}
	writes, err := step.Evaluate(bulk)
	if err != nil {
		t.Fatal(err)
	}
	if copied := writes.Copied > 0; copied != (bulk > 0) {
		t.Fatalf("%d rows by COPY and %d by statement, want it the other way", writes.Copied, writes.Upserts)
	}
	if writes.Copied > 0 {
		if _, err := conn.PgConn().CopyFrom(t.Context(), bytes.NewReader(writes.Copy), c.Table.CopySQL()); err != nil {
			t.Fatal(err)
		}
	} else {
		exec(t, conn, c.Table.UpsertSQL(), writes.Upsert...)
	}
	err = conn.QueryRow(t.Context(), "select string_agg(r::text, E'\\n' order by id) from "+c.Table.Qualified()+" r").Scan(&text)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestRowThatHasNoBinaryFormIsLeftToTheStatement(t *testing.T) {
	c, err := projection.Append[everything]{
		Name: "odd", Version: 1, Doc: "Odd rows.", Events: []string{"odd."},
		Rows: func(e domain.Recorded) []everything { return e.Event.(odd).rows },
	}.Compile()
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]everything{
		"id":    {ID: "no UUID"},
		"digit": {ID: "0198c0de-0000-7000-8000-00000000000g"},
		"day":   {ID: number(1, 0xd), Day: new(domain.Date("30 February"))},
	} {
		step, err := c.NewEngine(1).Begin([]domain.Recorded{{Event: odd{[]everything{row}}}})
		if err != nil {
			t.Fatal(err)
		}
		writes, err := step.Evaluate(1)
		if err != nil || writes.Copied != 0 || writes.Upserts != 1 {
			t.Errorf("%s: %d rows by COPY, %d by statement, %v", name, writes.Copied, writes.Upserts, err)
		}
	}
}

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pgtest.Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	exec(t, conn, "create schema projection")
	return conn
}
