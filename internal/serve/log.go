package serve

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// line is what the log and the metrics are told of a request.
type line struct {
	*exchange
	record    *record.Record
	principal string
	front     string // "files", "put", "bits", "tus", "ietf", or "none" if it did not get so far
}

// done logs a request. The query is left out: it can hold what signs a request.
func (s *server) done(l *line, r *http.Request) {
	took := time.Since(l.began)
	s.metrics.done(l, took)
	level := slog.LevelInfo
	if l.status >= 500 {
		level = slog.LevelWarn
	}
	if !s.Log.Enabled(r.Context(), level) {
		return
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", l.status), slog.Int64("sent", l.sent),
		slog.Int64("received", l.received.Load()), slog.Duration("took", took.Round(time.Microsecond)), slog.String("client", host), slog.String("front", l.front),
	}
	if l.principal != "" {
		attrs = append(attrs, slog.String("principal", l.principal))
	}
	if coding := l.Header().Get("Content-Encoding"); coding != "" { // content information in place of the file
		attrs = append(attrs, slog.String("encoding", coding))
	}
	if packet := r.Header.Get("BITS-Packet-Type"); packet != "" {
		attrs = append(attrs, slog.String("packet", packet))
	}
	if why := l.why(); why != "" {
		attrs = append(attrs, slog.String("why", why))
	}
	s.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// why returns why the request was refused: what was noted or, of a front end that noted nothing,
// what it told the client.
func (l *line) why() string {
	const errorCode = "BITS-Error-Code" // as bupwire writes it, whatever Go takes for canonical
	if why := l.record.Reason(); why != "" || l.status < 400 {
		return why
	}
	if code := l.Header()[errorCode]; len(code) > 0 { //nolint:staticcheck // see above
		return "BITS-Error-Code " + code[0]
	}
	return strings.TrimSpace(string(l.told))
}

// discreet is a log that does not tell the ids of uploads and replies: to know one is all that it takes
// to go on with an anonymous upload. What is left tells them apart.
type discreet struct{ slog.Handler }

// Handle implements slog.Handler.
func (d discreet) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(shorten(a))
		return true
	})
	return d.Handler.Handle(ctx, out)
}

// WithAttrs implements slog.Handler.
func (d discreet) WithAttrs(attrs []slog.Attr) slog.Handler {
	short := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		short[i] = shorten(a)
	}
	return discreet{d.Handler.WithAttrs(short)}
}

// WithGroup implements slog.Handler.
func (d discreet) WithGroup(name string) slog.Handler { return discreet{d.Handler.WithGroup(name)} }

var (
	// ownPath is what the store and BITS keep below a prefix, up to what tells two of them apart.
	ownPath = regexp.MustCompile(`(?i)(` + regexp.QuoteMeta(session.Hidden) + `/[0-9a-f]{8}|` + session.BITSSessions + `/[a-z]+/\{?[0-9a-f]{8})[-0-9a-f]*\}?`)
	// anID is an id in an error. A path of a client's may hold the like: a file named by its digest.
	anID = regexp.MustCompile(`\b([0-9a-f]{8})[0-9a-f]{24}\b`)
)

// shorten shortens the ids in an attribute.
func shorten(a slog.Attr) slog.Attr {
	text := ""
	if err, ok := a.Value.Any().(error); ok {
		text = err.Error()
	} else if a.Value.Kind() == slog.KindString {
		text = a.Value.String()
	}
	short := ownPath.ReplaceAllString(text, "$1…")
	if a.Key != "path" {
		short = anID.ReplaceAllString(short, "$1…")
	}
	if short == text {
		return a
	}
	return slog.String(a.Key, short)
}
