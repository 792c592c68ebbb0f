package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/rapport-crm/rapport/domain"
)

// Shape of the retail file that is made when the real one is absent.
const (
	madeLines    = 100_000
	madePerOrder = 20
)

// loaded is a server with imported data.
type loaded struct {
	*server
	lines    int64 // of the retail file
	commands int64
	took     time.Duration // of importing it
	behind   time.Duration // that the read models needed afterwards
	made     bool          // the file was made here
}

// counts is what the measurements need of an import's result.
type counts struct {
	Inputs []struct {
		Rows      int64 `json:"rows"`
		Accepted  int64 `json:"accepted"`
		Unchanged int64 `json:"unchanged"`
		Rejected  int64 `json:"rejected"`
	} `json:"inputs"`
}

// load starts a server and imports the retail data and the sales pipeline, once.
func (b *bench) load(ctx context.Context) (*loaded, error) {
	if b.loaded != nil {
		return b.loaded, nil
	}
	s, err := b.serve(ctx, "loaded")
	if err != nil {
		return nil, err
	}
	b.loaded = &loaded{server: s}
	file, made, err := b.retailFile()
	if err != nil {
		return nil, err
	}
	b.loaded.made = made
	b.say("importing %s", filepath.Base(file))
	start := time.Now()
	result, err := b.runImport(ctx, s, "online-retail", file)
	if err != nil {
		return nil, err
	}
	b.loaded.took = time.Since(start)
	if b.loaded.behind, err = s.caughtUp(ctx); err != nil {
		return nil, err
	}
	for i, in := range result.Inputs {
		if i == 0 {
			b.loaded.lines = in.Rows // the inputs are passes over one file
		}
		b.loaded.commands += in.Accepted + in.Unchanged + in.Rejected
	}
	if err := b.loadPipeline(ctx, s); err != nil {
		return nil, err
	}
	_, err = s.caughtUp(ctx)
	return b.loaded, err
}

// loadPipeline imports the sales pipeline when it is there.
func (b *bench) loadPipeline(ctx context.Context, s *server) error {
	var files []string
	for _, name := range []string{"accounts.csv", "products.csv", "sales_teams.csv", "sales_pipeline.csv"} {
		file := filepath.Join(b.data, "sales-pipeline-maven", name)
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			b.say("%s is absent: the funnel has no deals", file)
			return nil
		}
		files = append(files, file)
	}
	b.say("importing the sales pipeline")
	_, err := b.runImport(ctx, s, "sales-pipeline", files...)
	return err
}

// runImport runs the real importer beside the server. Rejected rows are no failure.
func (b *bench) runImport(ctx context.Context, s *server, mapping string, files ...string) (counts, error) {
	var out, errs bytes.Buffer
	importer := exec.CommandContext(ctx, b.binary, append([]string{"import", "--data", s.dir, "--mapping", mapping, "--json"}, files...)...)
	importer.Stdout, importer.Stderr = &out, &errs
	err := importer.Run()
	const partly = 3 // exit code: done, but rows were rejected
	var exit *exec.ExitError
	if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == partly) {
		return counts{}, fmt.Errorf("rapport import: %w\n%s", err, lastLines(errs.String(), 20))
	}
	var c counts
	return c, json.Unmarshal(out.Bytes(), &c)
}

// caughtUp waits until the read models reflect everything in the log.
func (s *server) caughtUp(ctx context.Context) (time.Duration, error) {
	c, err := s.dial()
	if err != nil {
		return 0, err
	}
	defer c.conn.Close()
	text, err := c.get("/v1/admin/projections")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Items []struct {
			Head domain.Position `json:"head"`
		} `json:"items"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, err
	}
	if len(answer.Items) == 0 {
		return 0, errors.New("the server names no projections")
	}
	return s.drained(ctx, answer.Items[0].Head)
}

// retailFile returns the file to import: the real one, the first lines of it, or one of the same shape.
func (b *bench) retailFile() (file string, made bool, err error) {
	real := filepath.Join(b.data, "orders-online-retail", "online_retail.csv.gz")
	from, err := os.Open(real)
	if errors.Is(err, os.ErrNotExist) {
		b.say("%s is absent: a file of the same shape is made", real)
		file, err = b.makeRetailFile()
		return file, true, err
	}
	if err != nil {
		return "", false, err
	}
	defer from.Close()
	if b.lines == 0 {
		return real, false, nil
	}
	unpacked, err := gzip.NewReader(from)
	if err != nil {
		return "", false, err
	}
	file = filepath.Join(b.dir, "online_retail.csv")
	return file, false, writeFile(file, func(w io.Writer) error {
		lines := bufio.NewReader(unpacked)
		for range b.lines + 1 { // and the header
			line, err := lines.ReadBytes('\n')
			if _, writeErr := w.Write(line); writeErr != nil {
				return writeErr
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// makeRetailFile invents invoices in the columns of the real file.
func (b *bench) makeRetailFile() (string, error) {
	file := filepath.Join(b.dir, "online_retail.csv")
	lines := b.lines
	if lines == 0 {
		lines = madeLines
	}
	random := rand.New(rand.NewPCG(b.seed, b.seed))
	return file, writeFile(file, func(w io.Writer) error {
		if _, err := fmt.Fprintln(w, "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"); err != nil {
			return err
		}
		at := time.Date(2010, time.December, 1, 8, 0, 0, 0, time.UTC)
		for n := range lines {
			invoice := n / madePerOrder
			code := random.IntN(4_000)
			if _, err := fmt.Fprintf(w, "%d,%d,PRODUCT %d,%d,%s,%d.%02d,%d,United Kingdom\n", 536_365+invoice, 20_000+code, code, 1+random.IntN(24),
				at.Add(time.Duration(invoice)*20*time.Minute).Format(time.DateTime), random.IntN(20), random.IntN(100), 12_346+invoice%4_372); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeFile makes a file by a function.
func writeFile(name string, write func(io.Writer) error) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	return errors.Join(write(out), out.Flush(), file.Close())
}

func (b *bench) imports(ctx context.Context) error {
	l, err := b.load(ctx)
	if err != nil {
		return err
	}
	name := "online retail"
	if l.made {
		name = "a file made in the shape of online retail"
	}
	t := table{head: []string{"import of " + name, "", "per second"}}
	t.add("lines", grouped(l.lines), rate(float64(l.lines)/l.took.Seconds()))
	t.add("commands", grouped(l.commands), rate(float64(l.commands)/l.took.Seconds()))
	t.add("took", secs(l.took), "")
	t.add("read models behind at its end", secs(l.behind), percent(l.behind.Seconds()/l.took.Seconds())+" of it")
	t.print(b.out)
	fmt.Fprintf(b.out, "\nWith `rapport import` beside a running server, which serves the log and builds the read models meanwhile on the same cores.\n")
	return nil
}
