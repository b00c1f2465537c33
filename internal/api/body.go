package api

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebbtransfer/ebb/bits"
)

// Bounds of a request that is read as it comes.
const (
	maxBody  = 128 << 20 // bytes: 100,000 files with long URLs fit
	maxValue = 8 << 20   // bytes of a job without its files, and of a file: 100,000 ranges fit
	// small is up to how many bytes a body's jobs are decoded in one piece each, which is quicker.
	small = 64 << 10
	// maxItems bounds what the bytes become: {} is a file, a range or a job of 100 bytes.
	maxItems = bits.MaxFilesPerJob
)

// Streamed is a request body of jobs or files that is decoded while it is read. It is never in memory
// as a whole: growing a buffer of that size copies it in one piece, which the garbage collector waits
// for, and with it all other requests. It is exported for huma, which needs that.
type Streamed[T bits.NewJob | []bits.NewJob | []bits.FileSpec] struct {
	value T
	read  bool
}

// registerStreamed registers a POST whose input has a Streamed[T]. The document tells of the body
// only afterwards: huma would read it otherwise.
func registerStreamed[T bits.NewJob | []bits.NewJob | []bits.FileSpec, I, O any](a huma.API, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	huma.Register(a, op, handler)
	a.OpenAPI().Paths[op.Path].Post.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[T](a)}}}
}

// Resolve reads the body. Huma calls it, of an embedded one twice: for the struct around it too.
func (s *Streamed[T]) Resolve(hc huma.Context) []error {
	if s.read {
		return nil
	}
	s.read = true
	_ = hc.SetReadDeadline(time.Now().Add(bodyTime))
	defer func() { _ = hc.SetReadDeadline(time.Time{}) }()
	most := int64(maxBody)
	if r, _ := humago.Unwrap(hc); r.ContentLength >= 0 {
		most = min(most, r.ContentLength)
	}
	d := newBodyReader(hc.BodyReader(), most)
	err := d.body(any(&s.value))
	if err == nil {
		return nil
	}
	// A client may look for an answer only when all is sent.
	_, _ = io.Copy(io.Discard, d.src)
	switch {
	case d.read == 0 && errors.Is(err, io.EOF):
		return []error{huma.NewError(http.StatusBadRequest, "request body is required")}
	case errors.Is(err, errTooLarge):
		return []error{huma.NewError(http.StatusRequestEntityTooLarge, err.Error())}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return []error{huma.NewError(http.StatusRequestTimeout, "the request body did not come in time")}
	}
	return []error{refusal(err)}
}

// refusal is what a body is refused with. Of a word that bits does not know it has the code, of which
// huma would keep no more than the text.
func refusal(err error) error {
	var e *bits.Error
	if errors.As(err, &e) {
		return answer(e)
	}
	message := err.Error()
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		message = ofAnotherKind(kind)
	}
	return &huma.ErrorDetail{Location: "body", Message: message}
}

// ofAnotherKind tells which value has another kind than it must have, in words of JSON: the error's own
// are those of Go's types.
func ofAnotherKind(e *json.UnmarshalTypeError) string {
	want := "text"
	if !reflect.PointerTo(e.Type).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		switch e.Type.Kind() {
		case reflect.Bool:
			want = "true or false"
		case reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint, reflect.Uint32, reflect.Uint64:
			want = "a whole number in its bounds"
		case reflect.Slice:
			want = "an array"
		case reflect.Struct, reflect.Map:
			want = "an object"
		}
	}
	var path []string
	for name := range strings.SplitSeq(e.Field, ".") {
		if name != "" && !unicode.IsUpper(rune(name[0])) { // not the structs that JSON knows nothing of
			path = append(path, name)
		}
	}
	if len(path) == 0 {
		path = []string{"the body"}
	}
	return fmt.Sprintf("%s: want %s, not %s", strings.Join(path, "."), want, e.Value)
}

// decoded is a small request body that is refused with the codes of bits. The document shows it as
// its value.
type decoded[T any] struct {
	value T
	err   error
}

// UnmarshalJSON implements json.Unmarshaler. Its error is left to Resolve.
func (d *decoded[T]) UnmarshalJSON(b []byte) error {
	d.err = jsonFormat.Unmarshal(b, &d.value)
	return nil
}

// Resolve tells huma what is wrong.
func (d *decoded[T]) Resolve(huma.Context) []error {
	if d.err == nil {
		return nil
	}
	return []error{refusal(d.err)}
}

var errTooLarge = errors.New("the request body is too large")

// bodyReader decodes jobs and files, strictly and within the bounds.
type bodyReader struct {
	*json.Decoder
	src   io.Reader
	most  int64 // bytes to read
	read  int64
	items int // files, ranges, mirrors
}

func newBodyReader(body io.Reader, most int64) *bodyReader {
	s := &bodyReader{src: io.LimitReader(body, most+1), most: most}
	s.Decoder = json.NewDecoder(s)
	s.DisallowUnknownFields()
	return s
}

// Read gives the decoder what comes next, unless one value is too long.
func (s *bodyReader) Read(p []byte) (int, error) {
	if s.read-s.InputOffset() > maxValue {
		return 0, fmt.Errorf("a value has more than %d bytes", maxValue)
	}
	n, err := s.src.Read(p)
	if s.read += int64(n); s.read > s.most {
		return 0, errTooLarge
	}
	return n, err
}

// body decodes the one value that there is.
func (s *bodyReader) body(into any) (err error) {
	switch v := into.(type) {
	case *bits.NewJob:
		err = s.job(v)
	case *[]bits.NewJob:
		*v, err = array(s, bits.MaxBatch, s.job)
	case *[]bits.FileSpec:
		*v, err = array(s, maxItems, s.file)
	}
	if err != nil {
		return err
	}
	return ended(s.Decoder)
}

// ended refuses what comes after a value.
func ended(d *json.Decoder) error {
	switch _, err := d.Token(); {
	case err == nil:
		return errors.New("there is more than one JSON value")
	case !errors.Is(err, io.EOF):
		return err
	}
	return nil
}

// open reads the beginning of an object or array; none is there if it is null.
func (s *bodyReader) open(delim json.Delim) (there bool, err error) {
	switch token, err := s.Token(); {
	case err != nil:
		return false, err
	case token == nil:
		return false, nil
	case token != delim: // which may be a secret in the wrong place
		return false, fmt.Errorf("something else stands where a %q begins", delim)
	}
	return true, nil
}

// array decodes an array of up to most elements. What it has grows by parts, and so is copied by
// parts, for the reason that Streamed has.
func array[T any](s *bodyReader, most int, element func(*T) error) ([]T, error) {
	if there, err := s.open('['); !there {
		return nil, err
	}
	const part = 1024
	var parts [][]T
	n := 0
	for ; s.More(); n++ {
		switch s.items++; {
		case s.items > maxItems:
			return nil, fmt.Errorf("there are more than %d files, with their ranges and mirrors, in one call", maxItems)
		case n == most:
			return nil, fmt.Errorf("one call takes %d of them", most)
		}
		if n%part == 0 {
			parts = append(parts, nil)
		}
		var v T
		if err := element(&v); err != nil {
			return nil, err
		}
		last := &parts[n/part]
		*last = append(*last, v)
	}
	if _, err := s.Token(); err != nil {
		return nil, err
	}
	if len(parts) == 1 {
		return parts[0], nil
	}
	all := make([]T, 0, n)
	for _, p := range parts {
		all = append(all, p...)
	}
	return all, nil
}

func (s *bodyReader) file(f *bits.FileSpec) error {
	err := s.Decode(f)
	s.items += len(f.Ranges) + len(f.Mirrors)
	return err
}

func (s *bodyReader) job(j *bits.NewJob) error {
	if s.most <= small {
		return s.Decode(j)
	}
	if there, err := s.open('{'); !there {
		return err
	}
	var files []bits.FileSpec
	rest := []byte{'{'}
	for s.More() {
		name, err := s.Token()
		if err != nil {
			return err
		}
		key, _ := name.(string)
		if strings.EqualFold(key, "files") {
			if files, err = array(s, maxItems, s.file); err != nil {
				return err
			}
			continue
		}
		var value json.RawMessage
		if err := s.Decode(&value); err != nil {
			return err
		}
		if len(rest)+len(key)+len(value) > maxValue {
			return fmt.Errorf("a job without its files has more than %d bytes", maxValue)
		}
		quoted, err := json.Marshal(key)
		if err != nil {
			return err
		}
		if len(rest) > 1 {
			rest = append(rest, ',')
		}
		rest = append(append(append(rest, quoted...), ':'), value...)
	}
	if _, err := s.Token(); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(append(rest, '}')))
	d.DisallowUnknownFields()
	if err := d.Decode(j); err != nil {
		return err
	}
	j.Files = files
	return nil
}
