package serve

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"
)

func TestLogDoesNotTellIDs(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef"
	var out bytes.Buffer
	log := slog.New(discreet{slog.NewTextHandler(&out, nil)}).With("session", id)
	log.Info("request", "path", "/in/.ebb-uploads/"+id)
	log.Info("request", "path", "/in/BITS-Sessions/Replies/{01234567-89AB-CDEF-0123-456789ABCDEF}/responsefile.bin")
	log.Info("request", "path", "/in/bits-sessions/replies/0123456789AB-CDEF-0123-456789ABCDEF}")
	log.Warn("failed", "why", "append to upload "+id+": no space", "err", fmt.Errorf("it failed: %w", &fs.PathError{Op: "open", Path: id, Err: fs.ErrNotExist}))
	if lower := strings.ToLower(out.String()); strings.Contains(lower, "9ab-cdef") || strings.Contains(lower, "89ab") || !strings.Contains(lower, "01234567…") {
		t.Errorf("the log has %s", &out)
	}
	out.Reset()
	log.Info("request", "path", "/mirror/d41d8cd98f00b204e9800998ecf8427e.iso", "fingerprint", id+id)
	if !strings.Contains(out.String(), "d41d8cd98f00b204e9800998ecf8427e.iso") || !strings.Contains(out.String(), id+id) {
		t.Errorf("the log has %s", &out)
	}
}
