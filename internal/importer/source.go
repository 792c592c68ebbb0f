package importer

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// record is one row of a file: its 1-based number, not counting a header, and its cells by column.
type record struct {
	number int
	cells  map[string]any
	err    error  // why the row cannot be read
	raw    string // the row as it stands in the file, when it has no cells
}

// source reads the rows of one file.
type source struct {
	name   string
	header []string // of a CSV file; nil for JSON lines, whose members are known only row by row
	next   func() (record, error)
	file   *os.File
	read   *atomic.Int64 // bytes of the file consumed so far, compressed if it is
	size   int64
}

func (s *source) Close() error { return s.file.Close() }

// openSource opens the file and reads its header. A wrong format is a *MappingError at line.
func openSource(path string, f Format) (*source, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := newSource(file, filepath.Base(path), f)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return s, nil
}

func newSource(file *os.File, name string, f Format) (*source, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	s := &source{name: name, file: file, size: info.Size(), read: new(atomic.Int64)}
	var r io.Reader = &countingReader{r: file, n: s.read}
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(r); err != nil {
			return nil, err
		}
	}
	if r, err = decodeText(r, f.Encoding); err != nil {
		return nil, err
	}
	switch f.Type {
	case "", "csv":
		return s, s.openCSV(r, f)
	case "jsonl":
		s.openJSONLines(r)
		return s, nil
	}
	return nil, &MappingError{Message: fmt.Sprintf("format %q is neither csv nor jsonl", f.Type)}
}

// decodeText turns the declared encoding into UTF-8 and drops a byte order mark.
func decodeText(r io.Reader, name string) (io.Reader, error) {
	if name == "" || strings.EqualFold(name, "utf-8") {
		// Bytes that are no UTF-8 pass through and are refused row by row.
		return transform.NewReader(r, unicode.BOMOverride(encoding.Nop.NewDecoder())), nil
	}
	enc, err := ianaindex.IANA.Encoding(name)
	if err != nil || enc == nil {
		return nil, &MappingError{Message: fmt.Sprintf("encoding %q is not known", name)}
	}
	return transform.NewReader(r, unicode.BOMOverride(enc.NewDecoder())), nil
}

// noQuote stands in for the quote of a file that quotes nothing: a control character that no accepted text contains.
const noQuote = '\x01'

func (s *source) openCSV(r io.Reader, f Format) error {
	quote := byte('"')
	switch {
	case f.Quote == "none":
		quote = noQuote
	case len(f.Quote) == 1 && f.Quote[0] < utf8.RuneSelf:
		quote = f.Quote[0]
	case f.Quote != "":
		return &MappingError{Message: fmt.Sprintf("quote %q is neither one ASCII character nor none", f.Quote)}
	}
	// encoding/csv knows one quote only: another one changes places with it before and after.
	swapped := quote != '"'
	if swapped {
		r = &swapReader{r: r, a: '"', b: quote}
	}
	tape := &tape{r: r}
	reader := csv.NewReader(tape)
	if f.Delimiter != "" {
		d, n := utf8.DecodeRuneInString(f.Delimiter)
		if n != len(f.Delimiter) || d == '"' || d == '\r' || d == '\n' || d == utf8.RuneError {
			return &MappingError{Message: fmt.Sprintf("delimiter %q is not one character", f.Delimiter)}
		}
		reader.Comma = d
	}
	header, err := reader.Read()
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	s.header = make([]string, len(header))
	for i, name := range header {
		if swapped {
			name = swapText(name, '"', quote)
		}
		s.header[i] = name
	}
	reader.ReuseRecord = true
	number := 0
	s.next = func() (record, error) {
		begin := reader.InputOffset()
		tape.keepFrom(begin)
		fields, err := reader.Read()
		if err == io.EOF {
			return record{}, io.EOF
		}
		number++
		row := record{number: number}
		var parse *csv.ParseError
		if errors.As(err, &parse) {
			row.err, row.raw = parse, tape.text(begin, reader.InputOffset())
			if swapped {
				row.raw = swapText(row.raw, '"', quote)
			}
			return row, nil
		}
		if err != nil {
			return record{}, err
		}
		row.cells = make(map[string]any, len(fields))
		for i, field := range fields {
			if swapped {
				field = swapText(field, '"', quote)
			}
			if !utf8.ValidString(field) {
				row.err = fmt.Errorf("column %s is not valid text in the declared encoding", s.header[i])
			}
			row.cells[s.header[i]] = field
		}
		return row, nil
	}
	return nil
}

func (s *source) openJSONLines(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), MaxRowBytes)
	number := 0
	s.next = func() (record, error) {
		for lines.Scan() {
			number++
			line := lines.Bytes()
			if len(strings.TrimSpace(string(line))) == 0 {
				continue
			}
			row := record{number: number}
			if err := json.Unmarshal(line, &row.cells); err != nil {
				row.cells, row.err, row.raw = nil, err, string(line)
			}
			return row, nil
		}
		if err := lines.Err(); err != nil {
			return record{}, err
		}
		return record{}, io.EOF
	}
}

// countingReader counts the bytes that were read through it.
type countingReader struct {
	r io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// tape remembers what was read since an offset, for rows that cannot be read.
type tape struct {
	r     io.Reader
	kept  []byte
	begin int64 // offset of kept
	keep  int64 // offset from which bytes are needed
}

func (t *tape) Read(p []byte) (int, error) {
	if old := min(t.keep-t.begin, int64(len(t.kept))); old > 0 {
		t.kept = append(t.kept[:0], t.kept[old:]...)
		t.begin += old
	}
	n, err := t.r.Read(p)
	t.kept = append(t.kept, p[:n]...)
	return n, err
}

func (t *tape) keepFrom(offset int64) { t.keep = offset }

// text returns what stands between two offsets, at most maxRawBytes of it, without ends of lines around it.
func (t *tape) text(from, to int64) string {
	to = min(to, from+maxRawBytes, t.begin+int64(len(t.kept)))
	return strings.Trim(string(t.kept[from-t.begin:to-t.begin]), "\r\n")
}

// swapReader exchanges two ASCII characters.
type swapReader struct {
	r    io.Reader
	a, b byte
}

func (s *swapReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	for i, c := range p[:n] {
		switch c {
		case s.a:
			p[i] = s.b
		case s.b:
			p[i] = s.a
		}
	}
	return n, err
}

func swapText(text string, a, b byte) string {
	return strings.NewReplacer(string(a), string(b), string(b), string(a)).Replace(text)
}
