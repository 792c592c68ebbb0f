package runner

import (
	"fmt"
	"testing"

	"github.com/rapport-crm/rapport/domain"
)

// story writes a fixed mix of events: several streams, long and short texts, erasures.
func story(t testing.TB, log *memoryLog, events int) {
	t.Helper()
	for i := range events {
		log.write(t, i%7, written{
			Text:   fmt.Sprint("t", i*i),
			Amount: domain.MustMoney(fmt.Sprintf("%d.%03d", i, i%1000), "EUR").Amount,
			Erase:  i%11 == 10,
		})
	}
}

func TestRowsAreTheFoldOfTheLog(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	story(t, f.log, 100)
	f.catchUp(f.runner(quick(16), all()...))
	f.same()
}
