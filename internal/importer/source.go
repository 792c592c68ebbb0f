package importer

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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
	name    string
	header  []string // of a CSV file; nil for JSON lines, whose members are known only row by row
	next    func() (record, error)
	file    *os.File
	read    *atomic.Int64 // bytes of the file consumed so far, compressed if it is
	size    int64
	decoded bool // from another encoding than UTF-8
}

func (s *source) Close() error { return s.file.Close() }

// openSource opens the file and reads its header. The format has no fault.
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
	r = s.decodeText(r, f)
	if f.Type == formatJSONLines {
		s.openJSONLines(r)
		return s, nil
	}
	return s, s.openCSV(r, f)
}

// fault returns the first member that is wrong, and why; no message when none is.
func (f Format) fault() (member, message string) {
	if f.Type != "" && f.Type != formatCSV && f.Type != formatJSONLines {
		return "format", fmt.Sprintf("format %q is neither csv nor jsonl", f.Type)
	}
	if _, ok := f.encoding(); !ok {
		return "encoding", fmt.Sprintf("encoding %q is not known", f.Encoding)
	}
	if f.Quote != "" && f.Quote != "none" && (len(f.Quote) != 1 || f.Quote[0] >= utf8.RuneSelf || strings.Contains("\x00\r\n", f.Quote)) {
		return "quote", fmt.Sprintf("quote %q is neither one ASCII character nor none", f.Quote)
	}
	d, n := utf8.DecodeRuneInString(f.Delimiter)
	if f.Delimiter != "" && (n != len(f.Delimiter) || d == 0 || d == '"' || d == '\r' || d == '\n' || d == utf8.RuneError) {
		return "delimiter", fmt.Sprintf("delimiter %q is not one character that separates values", f.Delimiter)
	}
	if f.Delimiter == f.Quote && f.Quote != "" || f.Delimiter == "" && f.Quote == "," {
		return "quote", "quote and delimiter are the same"
	}
	return "", ""
}

// Formats of files.
const (
	formatCSV       = "csv"
	formatJSONLines = "jsonl"
)

// encoding returns the declared encoding, nil for UTF-8; ok is false when nobody knows it.
func (f Format) encoding() (enc encoding.Encoding, ok bool) {
	if f.Encoding == "" || strings.EqualFold(f.Encoding, "utf-8") {
		return nil, true
	}
	enc, err := ianaindex.IANA.Encoding(f.Encoding)
	return enc, err == nil && enc != nil
}

// decodeText turns the declared encoding into UTF-8 and drops a byte order mark. Bytes that are no UTF-8 pass through, those
// that are nothing in another encoding become U+FFFD, and both are refused row by row.
func (s *source) decodeText(r io.Reader, f Format) io.Reader {
	decoder := encoding.Nop.NewDecoder()
	if enc, _ := f.encoding(); enc != nil {
		decoder, s.decoded = enc.NewDecoder(), true
	}
	return transform.NewReader(r, unicode.BOMOverride(decoder))
}

// validText reports whether a text of the file was one in the declared encoding.
func (s *source) validText(text string) bool {
	return utf8.ValidString(text) && !(s.decoded && strings.ContainsRune(text, utf8.RuneError))
}

// noQuote stands in for the quote of a file that quotes nothing: a control character that no accepted text contains.
const noQuote = '\x01'

func (s *source) openCSV(r io.Reader, f Format) error {
	quote := byte('"')
	if f.Quote == "none" {
		quote = noQuote
	} else if f.Quote != "" {
		quote = f.Quote[0]
	}
	// encoding/csv knows one quote only: another one changes places with it before and after.
	swapped := quote != '"'
	if swapped {
		r = &swapReader{r: r, a: '"', b: quote}
	}
	tape := &tape{r: r}
	reader := csv.NewReader(tape)
	if f.Delimiter != "" {
		reader.Comma, _ = utf8.DecodeRuneInString(f.Delimiter)
	}
	header, err := reader.Read()
	if err == io.EOF {
		return errors.New("the file is empty; the first row of a CSV file names its columns")
	}
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	s.header = make([]string, len(header))
	for i, name := range header {
		if swapped {
			name = swapText(name, '"', quote)
		}
		if !s.validText(name) {
			return fmt.Errorf("header: the name of column %d is not valid text in the declared encoding", i+1)
		}
		if name != "" && slices.Contains(s.header[:i], name) {
			return fmt.Errorf("header: there are two columns %q", name)
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
		if errors.As(err, &parse) || errors.Is(err, errRowTooLong) {
			row.err, row.raw = err, tape.text(begin, reader.InputOffset())
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
			if !s.validText(field) {
				row.err = fmt.Errorf("column %s is not valid text in the declared encoding", s.header[i])
			}
			row.cells[s.header[i]] = field
		}
		return row, nil
	}
	return nil
}

func (s *source) openJSONLines(r io.Reader) {
	tape := &tape{r: r}
	lines := bufio.NewReader(tape)
	number, begin := 0, int64(0)
	s.next = func() (record, error) {
		for {
			tape.keepFrom(begin)
			line, err := lines.ReadBytes('\n')
			begin += int64(len(line))
			if err != nil && err != io.EOF && err != errRowTooLong || err == io.EOF && len(line) == 0 {
				return record{}, err
			}
			number++
			if line = bytes.TrimSpace(line); len(line) == 0 {
				continue
			}
			row := record{number: number}
			switch {
			case err == errRowTooLong:
				row.err = err
			case !s.validText(string(line)):
				row.err = errors.New("the line is not valid text in the declared encoding")
			default:
				row.err = json.Unmarshal(line, &row.cells, exactNumbers)
				if row.err == nil && row.cells == nil {
					row.err = errors.New("null is no object")
				}
			}
			if row.err != nil {
				row.cells, row.raw = nil, string(line[:min(len(line), maxRawBytes)])
			}
			return row, nil
		}
	}
}

// exactNumbers decodes whole numbers to int64 and others to their text: no amount passes through a float64.
var exactNumbers = json.WithUnmarshalers(json.UnmarshalFromFunc(func(dec *jsontext.Decoder, v *any) error {
	if dec.PeekKind() != '0' {
		return errors.ErrUnsupported
	}
	text, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if whole, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		*v = whole
	} else {
		*v = string(text)
	}
	return nil
}))

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

// errRowTooLong says that a row has no end within MaxRowBytes.
var errRowTooLong = fmt.Errorf("the row has more than %d bytes; a quote may be missing", MaxRowBytes)

// tape remembers what was read since an offset, for rows that cannot be read. When a row has no end within MaxRowBytes, it
// says so once and goes on behind the end of the line; what it passes over has no offset.
type tape struct {
	r        io.Reader
	kept     []byte
	begin    int64 // offset of kept
	keep     int64 // offset from which bytes are needed
	skipping bool  // to the end of the line
}

func (t *tape) Read(p []byte) (int, error) {
	if old := min(t.keep-t.begin, int64(len(t.kept))); old > 0 {
		t.kept = append(t.kept[:0], t.kept[old:]...)
		t.begin += old
	}
	if !t.skipping && t.begin+int64(len(t.kept))-t.keep > MaxRowBytes {
		t.skipping = true
		return 0, errRowTooLong
	}
	n, err := t.r.Read(p)
	for t.skipping && n > 0 {
		if end := bytes.IndexByte(p[:n], '\n'); end >= 0 {
			t.skipping, n = false, copy(p, p[end+1:n])
		} else if n = 0; err == nil {
			n, err = t.r.Read(p)
		}
	}
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
