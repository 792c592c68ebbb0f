package api

import (
	"embed"
	"encoding/json"
	"fmt"
	"net/http"
	"path"

	"github.com/labstack/echo/v4"
)

// reference holds the browsable reference: RapiDoc (MIT), its licence, and the page that shows it. Nothing of it comes from
// another server.
//
//go:embed reference
var reference embed.FS

// referencePolicy lets the reference run its own script and the styles that it makes itself, and reach nothing but this
// server.
const referencePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

var referenceFiles = map[string]string{
	"index.html":      "text/html; charset=utf-8",
	"rapidoc-min.js":  "text/javascript; charset=utf-8",
	"rapidoc.LICENSE": "text/plain; charset=utf-8",
}

// documentRoutes offers the OpenAPI document, rendered once, and the reference that shows it. It comes last, when every
// operation is known.
func (s *Server) documentRoutes() error {
	asJSON, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return fmt.Errorf("openapi document: %w", err)
	}
	asYAML, err := s.api.OpenAPI().YAML()
	if err != nil {
		return fmt.Errorf("openapi document: %w", err)
	}
	s.document("/openapi.json", "application/openapi+json", asJSON)
	s.document("/openapi.yaml", "application/openapi+yaml", asYAML)
	for name, media := range referenceFiles {
		body, err := reference.ReadFile(path.Join("reference", name))
		if err != nil {
			return err
		}
		at := "/docs/" + name
		if name == "index.html" {
			at = "/docs"
		}
		s.document(at, media, body)
	}
	return nil
}

// document serves a file that browsers may show or run: for those, old ones too, it says what data needs not say.
func (s *Server) document(path, media string, body []byte) {
	s.echo.GET(path, func(c echo.Context) error {
		h := c.Response().Header()
		h.Set("Content-Security-Policy", referencePolicy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		return c.Blob(http.StatusOK, media, body)
	})
}
