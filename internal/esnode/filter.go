package esnode

import (
	"bytes"
	"regexp"

	"github.com/EventStore/EventStore-Client-Go/v4/protos/streams"
)

// filter decides which events of $all a reader gets. A nil filter passes all.
type filter struct {
	byStream bool // else by event type
	prefixes [][]byte
	regex    *regexp.Regexp
	interval uint64 // events considered from one checkpoint to the next
}

// newFilter checks what the client asked for.
func newFilter(options *streams.ReadReq_Options_FilterOptions) (*filter, error) {
	if options == nil {
		return nil, nil
	}
	f := &filter{}
	var expression *streams.ReadReq_Options_FilterOptions_Expression
	switch by := options.GetFilter().(type) {
	case *streams.ReadReq_Options_FilterOptions_StreamIdentifier:
		f.byStream, expression = true, by.StreamIdentifier
	case *streams.ReadReq_Options_FilterOptions_EventType:
		expression = by.EventType
	default:
		return nil, invalid("a filter needs a stream or an event type expression")
	}
	if err := f.setExpression(expression.GetRegex(), expression.GetPrefix()); err != nil {
		return nil, err
	}
	window := uint64(defaultSearchWindow)
	if max, ok := options.GetWindow().(*streams.ReadReq_Options_FilterOptions_Max); ok {
		if max.Max == 0 {
			return nil, invalid("the search window of a filter must be positive")
		}
		window = uint64(max.Max)
	}
	f.interval = window * max(1, uint64(options.GetCheckpointIntervalMultiplier()))
	return f, nil
}

func (f *filter) setExpression(regex string, prefixes []string) error {
	size := len(regex)
	for _, p := range prefixes {
		size += len(p)
		f.prefixes = append(f.prefixes, []byte(p))
	}
	switch {
	case size > MaxFilterBytes || len(prefixes) > MaxFilterPrefixes:
		return invalid("the filter is larger than %d prefixes or %d bytes", MaxFilterPrefixes, MaxFilterBytes)
	case regex == "" && len(prefixes) == 0:
		return invalid("a filter needs a regex or prefixes")
	case regex != "" && len(prefixes) > 0:
		return invalid("a filter takes a regex or prefixes, not both")
	case regex == "":
		return nil
	}
	compiled, err := regexp.Compile(regex)
	if err != nil {
		return invalid("filter: %v", err)
	}
	f.regex = compiled
	return nil
}

func (f *filter) match(rec record) bool {
	if f == nil {
		return true
	}
	text := rec.eventType
	if f.byStream {
		text = rec.stream
	}
	if f.regex != nil {
		return f.regex.Match(text)
	}
	for _, p := range f.prefixes {
		if bytes.HasPrefix(text, p) {
			return true
		}
	}
	return false
}
