package api

import (
	"golang.org/x/text/language"

	"github.com/rapport-crm/rapport/api/resource"
	"github.com/rapport-crm/rapport/domain"
)

// Wording are the parameters of queries whose answers tell events in words.
type Wording struct {
	AcceptLanguage string `header:"Accept-Language" maxLength:"200" doc:"Languages of the words, by preference: zh or en. English for any other." example:"zh-CN, en;q=0.8"`
}

// languages are those of domain.Languages, in its order.
var languages = language.NewMatcher([]language.Tag{language.English, language.Chinese})

// reader returns for whom the events are told. A header that does not parse asks for nothing.
func (w Wording) reader() domain.Reader {
	_, i := language.MatchStrings(languages, w.AcceptLanguage)
	return domain.Reader{Language: domain.Languages[i]}
}

// told puts events into words: the one way in which answers get their words.
func told[E any, P interface {
	*E
	Tell(*domain.Phrasebook, domain.Reader)
}](s *Server, w Wording, entries []E) resource.Told {
	reader := w.reader()
	for i := range entries {
		P(&entries[i]).Tell(s.opts.Words, reader)
	}
	return resource.Told{Language: reader.Language}
}
