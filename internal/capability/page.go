package main

import (
	"fmt"
	"regexp"
	"strings"
)

// row is a capability of the page.
type row struct {
	id, name string
	clauses  []clause
}

// clause is one thing that must be shown before its row works.
type clause struct {
	words string
	rows  []string // the rows whose tests show the clause; none when a test of its own does
}

var (
	rowPattern    = regexp.MustCompile(`^### ([AN][0-9]+) (.+)$`)
	idPattern     = regexp.MustCompile(`[AN][0-9]+`)
	othersPattern = regexp.MustCompile(`^([AN][0-9]+(, | and )?)+ works?$`) // such as "A62, A64 and A85 work"
)

// readPage reads the rows of the page. It refuses a page on which an id or a clause stands twice, a row has no clause, or a
// clause is shown by rows that are not there or that other rows show in turn.
func readPage(text string) ([]row, error) {
	var rows []row
	byID := map[string]*row{}
	for i, line := range strings.Split(text, "\n") {
		if found := rowPattern.FindStringSubmatch(line); found != nil {
			rows = append(rows, row{id: found[1], name: found[2]})
			continue
		}
		words, ok := strings.CutPrefix(line, "- ")
		if !ok || len(rows) == 0 {
			continue
		}
		if words != strings.TrimSpace(words) || strings.Contains(words, "/") {
			return nil, fmt.Errorf("line %d: a clause names a subtest: it begins and ends with a word, and has no slash", i+1)
		}
		c := clause{words: words}
		if othersPattern.MatchString(words) {
			c.rows = idPattern.FindAllString(words, -1)
		}
		last := &rows[len(rows)-1]
		for _, before := range last.clauses {
			if before.words == words {
				return nil, fmt.Errorf("line %d: %s says this twice", i+1, last.id)
			}
		}
		last.clauses = append(last.clauses, c)
	}
	for i := range rows {
		if byID[rows[i].id] != nil {
			return nil, fmt.Errorf("%s stands twice", rows[i].id)
		}
		if len(rows[i].clauses) == 0 {
			return nil, fmt.Errorf("%s has no clause", rows[i].id)
		}
		byID[rows[i].id] = &rows[i]
	}
	for _, r := range rows {
		for _, c := range r.clauses {
			for _, id := range c.rows {
				other := byID[id]
				if other == nil {
					return nil, fmt.Errorf("%s: there is no row %s", r.id, id)
				}
				for _, o := range other.clauses {
					if o.rows != nil {
						return nil, fmt.Errorf("%s: %s is shown by other rows itself", r.id, id)
					}
				}
			}
		}
	}
	return rows, nil
}
