package domain_test

import (
	"testing"

	"github.com/rapport-crm/rapport/domain"
	"github.com/rapport-crm/rapport/internal/codec/codectest"
)

func TestReservationEvents(t *testing.T) {
	codectest.Golden(t, domain.Reservation, "testdata/events")
}
