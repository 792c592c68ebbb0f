package api

import (
	"io"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	jsonv1 "github.com/go-json-experiment/json/v1"
)

// answerOptions is how everything that the API answers becomes JSON: times in UTC, empty lists as [], zero members left out
// where their tag says omitempty, bytes that are no UTF-8 replaced, the same answer always in the same bytes.
var answerOptions = json.JoinOptions(
	jsonv1.OmitEmptyWithLegacySemantics(true),
	jsontext.AllowInvalidUTF8(true),
	json.Deterministic(true),
	json.WithMarshalers(json.MarshalToFunc(func(e *jsontext.Encoder, t time.Time) error {
		return e.WriteToken(jsontext.String(t.UTC().Format(time.RFC3339Nano)))
	})),
)

func marshal(v any) ([]byte, error) { return json.Marshal(v, answerOptions) }

// jsonFormat is Huma's way to the options above.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		body, err := marshal(v)
		if err == nil {
			w.Write(body) // a client that has gone away is told nothing
		}
		return err
	},
	Unmarshal: func(data []byte, v any) error { return json.Unmarshal(data, v) },
}
