// Package catalogue writes the catalogue of events from the list of aggregates: pages for people in docs/events and JSON
// Schemas for programs in docs/events/schemas. A released schema only ever grows by optional fields; Generate refuses
// anything else.
package catalogue

//go:generate go run ./generate ../../docs/events
