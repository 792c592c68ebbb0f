package api

import (
	"net/http"
	"reflect"

	"github.com/labstack/echo/v4"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
)

// Metadata describes what the server knows.
type Metadata struct {
	Version    string                       `json:"version" doc:"Version of the product."`
	Aggregates []AggregateMetadata          `json:"aggregates" doc:"Kinds of record that take commands."`
	ReadModels []resource.ReadModelMetadata `json:"readModels" doc:"What can be listed, filtered and sorted."`
}

// AggregateMetadata describes one kind of record.
type AggregateMetadata struct {
	Name     string            `json:"name" doc:"Permanent name."`
	Plural   string            `json:"plural" doc:"As it stands in routes."`
	Doc      string            `json:"doc" doc:"What it is."`
	Commands []CommandMetadata `json:"commands" doc:"What can be asked of it."`
	Events   []EventMetadata   `json:"events" doc:"What can have happened to it."`
}

// CommandMetadata describes one command.
type CommandMetadata struct {
	Type    string                   `json:"type" doc:"Permanent name."`
	Doc     string                   `json:"doc" doc:"What it does."`
	Path    string                   `json:"path" doc:"Route to POST to."`
	Creates bool                     `json:"creates" doc:"Whether it makes a new record."`
	Fields  []resource.FieldMetadata `json:"fields" doc:"Members of the body."`
	Example any                      `json:"example" doc:"A complete body."`
}

// EventMetadata describes one type of event.
type EventMetadata struct {
	Type   string                   `json:"type" doc:"Permanent name."`
	Doc    string                   `json:"doc" doc:"What has happened."`
	Schema int                      `json:"schema" doc:"Newest schema."`
	Fields []resource.FieldMetadata `json:"fields" doc:"Members of data."`
}

// metadataRoute offers the description of everything, made once: it does not change while the server runs.
func (s *Server) metadataRoute() error {
	m := Metadata{Version: s.opts.Version, ReadModels: s.readModels}
	for _, def := range s.opts.Bus.Definitions() {
		a := AggregateMetadata{Name: def.Name, Plural: def.Plural, Doc: def.Doc, Commands: []CommandMetadata{}, Events: []EventMetadata{}}
		for _, spec := range def.Commands {
			a.Commands = append(a.Commands, CommandMetadata{
				Type: spec.Type(), Doc: spec.Doc, Path: s.specs[spec.Type()].path, Creates: spec.Creates,
				Fields: resource.Fields(spec.GoType()), Example: spec.Example,
			})
		}
		for _, spec := range def.Events {
			a.Events = append(a.Events, EventMetadata{
				Type: spec.Type(), Doc: spec.Doc, Schema: spec.Version(), Fields: resource.Fields(reflect.TypeOf(spec.Example)),
			})
		}
		m.Aggregates = append(m.Aggregates, a)
	}
	body, err := marshal(m)
	if err != nil {
		return err
	}
	op := s.readOperation("metadata", "/v1/metadata", "event", "Describes aggregates, their commands and events, and the read models.", reflect.TypeFor[Metadata]())
	s.handle(op, func(c echo.Context) error {
		for name := range c.Request().URL.Query() {
			return domain.Invalid(name, "is not a parameter of this route")
		}
		return c.JSONBlob(http.StatusOK, body)
	})
	return nil
}
