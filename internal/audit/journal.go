package audit

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Socket is where systemd's journal takes messages.
const Socket = "/run/systemd/journal/socket"

// fields are the names that facts have in the journal where they are not just EBB_ and their own in
// capital letters: those that people search for say what they are of.
var fields = map[string]string{
	"job":   "EBB_JOB_ID",
	"name":  "EBB_JOB_NAME",
	"owner": "EBB_JOB_OWNER",
	"state": "EBB_JOB_STATE",
	idKey:   "EBB_EVENT_ID",
	"by":    "EBB_USER",
	"pid":   "EBB_CLIENT_PID",
}

// mostField bounds a field, in bytes: a message has to fit in a datagram.
const mostField = 8 << 10

// Journal is an slog.Handler that writes to systemd's journal: the message with its facts as people
// read them, and each fact again as a field, so that `journalctl EBB_JOB_ID=...` finds all that
// happened to a job, and `journalctl EBB_EVENT_ID=3` all that were created.
type Journal struct {
	level slog.Leveler
	out   *socket
	attrs []slog.Attr
	group string
}

// socket is the connection to the journal.
type socket struct {
	mu   sync.Mutex // guards conn
	path string
	conn *net.UnixConn
}

// NewJournal returns a handler that writes to the journal whose socket is at path.
func NewJournal(path string, level slog.Leveler) (*Journal, error) {
	s := &socket{path: path}
	if err := s.dial(); err != nil {
		return nil, err
	}
	return &Journal{level: level, out: s}, nil
}

func (s *socket) dial() (err error) {
	s.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
	return err
}

// send writes a message, over a new connection if the journal was started anew.
func (s *socket) send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		if _, err := s.conn.Write(b); err == nil {
			return nil
		}
		s.conn.Close()
		s.conn = nil
	}
	if err := s.dial(); err != nil {
		s.conn = nil
		return err
	}
	_, err := s.conn.Write(b)
	return err
}

// Enabled implements slog.Handler.
func (j *Journal) Enabled(_ context.Context, l slog.Level) bool { return l >= j.level.Level() }

// WithAttrs implements slog.Handler.
func (j *Journal) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *j
	c.attrs = slices.Clip(c.attrs)
	for _, a := range attrs {
		a.Key = j.group + a.Key
		c.attrs = append(c.attrs, a)
	}
	return &c
}

// WithGroup implements slog.Handler.
func (j *Journal) WithGroup(name string) slog.Handler {
	c := *j
	c.group += name + "_"
	return &c
}

// Handle implements slog.Handler.
func (j *Journal) Handle(_ context.Context, r slog.Record) error {
	var text strings.Builder
	text.WriteString(r.Message)
	var m bytes.Buffer
	put := func(key string, v slog.Value) {
		value := v.Resolve().String()
		if len(value) > mostField {
			value = strings.ToValidUTF8(value[:mostField], "")
		}
		if key != idKey && value != "" {
			text.WriteString("  " + key + "=")
			if strings.ContainsAny(value, " =\"\n") || strings.ContainsFunc(value, isControl) {
				value := strconv.Quote(value)
				text.WriteString(value)
			} else {
				text.WriteString(value)
			}
		}
		name, ok := fields[key]
		if !ok {
			name = "EBB_" + fieldName(key)
		}
		appendField(&m, name, value)
	}
	for _, a := range j.attrs {
		put(a.Key, a.Value)
	}
	r.Attrs(func(a slog.Attr) bool {
		put(j.group+a.Key, a.Value)
		return true
	})
	appendField(&m, "MESSAGE", text.String())
	appendField(&m, "PRIORITY", strconv.Itoa(priority(r.Level)))
	appendField(&m, "SYSLOG_IDENTIFIER", "ebb")
	return j.out.send(m.Bytes())
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

// appendField writes a field in the journal's native form: one with a line break is preceded by its
// length, so that no value can pass for another field.
func appendField(m *bytes.Buffer, name, value string) {
	m.WriteString(name)
	if strings.ContainsRune(value, '\n') {
		m.WriteByte('\n')
		_ = binary.Write(m, binary.LittleEndian, uint64(len(value)))
	} else {
		m.WriteByte('=')
	}
	m.WriteString(value)
	m.WriteByte('\n')
}

// fieldName makes a name of capital letters, digits and underscores.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

// priority is syslog's.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
