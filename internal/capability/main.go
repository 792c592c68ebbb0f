// Command capability says which rows of docs/capabilities.md a run of the scenario tests has shown to work.
//
// It reads what `go test -json` prints, and nothing else: a row that this run has not shown is not yet there.
//
//	go test -count=1 -json -run '^Test[AN][0-9]+_' ./cmd/rapport | go run ./internal/capability docs/capabilities.md
//
// It ends with 1 when a clause has failed or was not run, when a test or package has failed, and when the tests and the page
// do not agree.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json … | capability PAGE")
		os.Exit(2)
	}
	faults, err := report(os.Args[1], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if faults > 0 {
		os.Exit(1)
	}
}

// report prints how each row of the page stands after the run, and returns how many faults the run has.
func report(page string, tests io.Reader, out io.Writer) (faults int, err error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return 0, err
	}
	rows, err := readPage(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", page, err)
	}
	r, err := readRun(tests)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriter(out)
	faults = r.print(w, rows)
	return faults, w.Flush()
}
