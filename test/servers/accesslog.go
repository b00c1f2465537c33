package servers

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// Request is a line of an access log.
type Request struct {
	Method string
	// Path is the decoded path without the query.
	Path   string
	Status int
	// BytesSent is the length of the body as the server sent it; -1 where it does not tell.
	BytesSent int64
	// Range is the request's Range header; empty is none, or a server that does not tell.
	Range string
}

// Requests reads the access log. Servers write a line when a request has ended, a moment after the
// client has its last byte; of those under way when the server is stopped there may be none.
func (s *Server) Requests() ([]Request, error) {
	if s.AccessLog == "" {
		return nil, errors.New("read access log: Options.AccessLog was not set")
	}
	f, err := os.Open(s.AccessLog)
	if err != nil {
		return nil, fmt.Errorf("read access log: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []Request
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		r, err := s.kind.parse(lines.Text())
		if errors.Is(err, errOther) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read access log: %s:%d: %w", s.AccessLog, n, err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// errOther is returned for lines that are not about a request.
var errOther = errors.New("not a request")

// parseTabs reads the format of the nginx and Apache configurations here.
func parseTabs(line string) (Request, error) {
	fields := strings.SplitN(line, "\t", 5)
	if len(fields) != 5 {
		return Request{}, fmt.Errorf("%d fields, want 5: %q", len(fields), line)
	}
	r := Request{Method: fields[0], Path: fields[4]}
	if fields[3] != "-" {
		r.Range = fields[3]
	}
	var err error
	if r.Status, err = strconv.Atoi(fields[1]); err != nil {
		return Request{}, fmt.Errorf("status: %w", err)
	}
	if r.BytesSent, err = strconv.ParseInt(fields[2], 10, 64); err != nil {
		return Request{}, fmt.Errorf("bytes sent: %w", err)
	}
	return r, nil
}

// parseCaddy reads Caddy's JSON.
func parseCaddy(line string) (Request, error) {
	var entry struct {
		Request *struct {
			Method  string      `json:"method"`
			URI     string      `json:"uri"`
			Headers http.Header `json:"headers"`
		} `json:"request"`
		Status int   `json:"status"`
		Size   int64 `json:"size"`
	}
	if err := json.Unmarshal([]byte(line), &entry); err != nil {
		return Request{}, err
	}
	if entry.Request == nil {
		return Request{}, errOther
	}
	u, err := url.ParseRequestURI(entry.Request.URI)
	if err != nil {
		return Request{}, err
	}
	return Request{
		Method: entry.Request.Method, Path: u.Path, Status: entry.Status, BytesSent: entry.Size,
		Range: entry.Request.Headers.Get("Range"),
	}, nil
}

// parsePython reads lines like: 127.0.0.1 - - [02/Jan/2025 03:04:05] "GET /file HTTP/1.1" 200 -
func parsePython(line string) (Request, error) {
	_, rest, found := strings.Cut(line, `] "`)
	request, status, quoted := strings.Cut(rest, `" `)
	method, target, _ := strings.Cut(request, " ")
	target, _, http := strings.Cut(target, " HTTP/")
	if !found || !quoted || !http {
		return Request{}, errOther
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return Request{}, err
	}
	code, err := strconv.Atoi(strings.TrimSuffix(status, " -"))
	if err != nil {
		return Request{}, fmt.Errorf("status: %w", err)
	}
	return Request{Method: method, Path: u.Path, Status: code, BytesSent: -1}, nil
}
