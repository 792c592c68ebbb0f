package api

import (
	"encoding"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/rapport-crm/rapport/commands"
	"github.com/rapport-crm/rapport/domain"
)

// maxShortBody is the length in bytes of a body for which room is made before it has come.
const maxShortBody = 4 << 10

// readBody returns the body of a request, which must be JSON and not encoded otherwise.
func readBody(r *http.Request) ([]byte, error) {
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, newProblem(http.StatusUnsupportedMediaType, codeMediaType, "The body must be application/json in UTF-8.")
	}
	body, err := readAll(r)
	if err == nil {
		return body, nil
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, err
	}
	return nil, &domain.InvalidError{Fields: []domain.FieldError{domain.Fault("", "the body breaks off")}}
}

// readAll reads a body, a short one whose length is known at once; whoever announces more must send it to have the room.
func readAll(r *http.Request) ([]byte, error) {
	if r.ContentLength <= 0 || r.ContentLength > maxShortBody {
		return io.ReadAll(r.Body)
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

// isJSON reports whether a content type is JSON in UTF-8.
func isJSON(contentType string) bool {
	if contentType == mediaJSON {
		return true // what nearly everybody says
	}
	media, parameters, err := mime.ParseMediaType(contentType)
	charset := parameters["charset"]
	return err == nil && media == mediaJSON && (charset == "" || charset == "utf-8" || charset == "UTF-8")
}

// decodeObject reads one JSON object into a struct and refuses whatever the struct does not know: unknown and repeated
// names, values of another type, invalid UTF-8, anything after the object. The error is a *domain.InvalidError whose
// pointer begins with at.
func decodeObject(body []byte, into any, at string) error {
	if kind := jsontext.Value(body).Kind(); kind != '{' && kind != 0 {
		return domain.Invalid(at, "is not a JSON object")
	}
	if err := json.Unmarshal(body, into, json.RejectUnknownMembers(true), json.WithUnmarshalers(readTime)); err != nil {
		return decodeError(err, at)
	}
	return nil
}

// readTime refuses the one time that Go takes for no time at all: it would pass for a field that was left out.
var readTime = json.UnmarshalFromFunc(func(d *jsontext.Decoder, t *time.Time) error {
	value, err := d.ReadValue()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(value, t); err != nil {
		return err
	}
	if t.IsZero() && value.Kind() == '"' {
		return domain.Invalid("", "is outside the years {from} to {to}", commands.FirstYear, commands.LastYear)
	}
	return nil
})

func decodeError(err error, at string) error {
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		return &domain.InvalidError{Code: codeMalformed, Fields: []domain.FieldError{{Pointer: at + string(syntax.JSONPointer), Text: syntaxText(syntax)}}}
	case errors.As(err, &semantic):
		return &domain.InvalidError{Fields: []domain.FieldError{{Pointer: at + string(semantic.JSONPointer), Text: semanticText(semantic)}}}
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		fault := domain.Invalid(at, "is cut off, or empty")
		fault.Code = codeMalformed
		return fault
	}
	return domain.Invalid(at, "does not read as JSON")
}

func syntaxText(e *jsontext.SyntacticError) domain.Text {
	switch {
	case errors.Is(e.Err, jsontext.ErrDuplicateName):
		return domain.Say("stands there twice")
	case errors.Is(e.Err, jsontext.ErrNonStringName):
		return domain.Say("a name of a member must be a string")
	case errors.Is(e.Err, io.ErrUnexpectedEOF):
		return domain.Say("the text is cut off, or empty")
	}
	return domain.Say("not JSON at byte {byte}: {reason}", e.ByteOffset, e.Err)
}

func semanticText(e *json.SemanticError) domain.Text {
	text, known := domain.TextOf(e.Err)
	switch {
	case errors.Is(e.Err, json.ErrUnknownName):
		return domain.Say("is not known here")
	case known:
		return text
	}
	return domain.Say("is not {expected}", expected(e.GoType))
}

// expected names what a Go type reads from, in words.
func expected(t reflect.Type) string {
	if t == nil {
		return "what belongs here"
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[domain.ID]():
		return "a UUID"
	case t == reflect.TypeFor[time.Time]():
		return "a time of the form 2006-01-02T15:04:05Z"
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "a text"
	}
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice, reflect.Array:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number of at least 0 in range"
	}
	return "a whole number in range"
}
