// Package files answers GET and HEAD for the files of a group: ranges, conditions, entity tags
// that survive restarts, digests on request, and listings where they are wanted. It promises that
// nothing outside of its source is ever read, and that an answer never joins two versions of a
// file. It knows nothing of users, limits and uploads.
package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/record"
)

// Handler serves the files of one group.
type Handler struct {
	Source  Source
	Digests *Digests
	Listing bool // of directories
	// Describing gives content information to clients that ask for it; nil does not.
	Describing *Describing
	// Untrusted says of a file whether others may have put it there: browsers then store it instead
	// of running what is in it. nil trusts all.
	Untrusted func(name string) bool
}

// Serve answers a GET or HEAD for the name below the group's path; it is decoded and begins
// without a slash.
func (h *Handler) Serve(w http.ResponseWriter, r *http.Request, name string) {
	dir := name == "" || strings.HasSuffix(name, "/")
	name = strings.TrimSuffix(name, "/")
	if name == "" {
		name = "."
	}
	if !fs.ValidPath(name) || strings.Contains(name, "\x00") {
		refuse(w, r, http.StatusNotFound, "the path is not a plain one")
		return
	}
	if t, ok := h.Source.(*Table); ok && name == "." {
		h.listTable(w, r, t)
		return
	}
	f, info, err := h.open(name)
	switch {
	case errors.Is(err, fs.ErrPermission):
		refuse(w, r, http.StatusForbidden, err.Error())
		return
	case err != nil: // also links that lead outside: no one needs to know that they exist
		refuse(w, r, http.StatusNotFound, err.Error())
		return
	}
	defer func() { _ = f.Close() }()
	switch {
	case info.IsDir() && !h.Listing:
		refuse(w, r, http.StatusNotFound, "directories are not listed")
	case info.IsDir() && !dir:
		// Relative, so that it holds behind any proxy.
		w.Header().Set("Location", "./"+escape(path.Base(name))+"/")
		w.WriteHeader(http.StatusMovedPermanently)
	case info.IsDir():
		h.listDir(w, r, f)
	case !info.Mode().IsRegular():
		refuse(w, r, http.StatusNotFound, "it is not a regular file")
	case dir:
		refuse(w, r, http.StatusNotFound, "it is a file, not a directory")
	default:
		h.serveFile(w, r, f, name)
	}
}

// open opens a file and says what it is.
func (h *Handler) open(name string) (*os.File, fs.FileInfo, error) {
	f, err := h.Source.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// settle returns the stamp of an open file once it can be trusted, or at once if that would take
// longer than it is worth to wait.
func settle(r *http.Request, f *os.File) (s stamp, settled bool, err error) {
	for range 2 {
		info, err := f.Stat()
		if err != nil {
			return stamp{}, false, err
		}
		s = stampOf(info)
		wait := s.settles(time.Now())
		if wait <= 0 {
			return s, true, nil
		}
		if wait > 50*time.Millisecond {
			return s, false, nil
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return s, false, r.Context().Err()
		}
	}
	return s, false, nil
}

func (h *Handler) serveFile(w http.ResponseWriter, r *http.Request, f *os.File, name string) {
	s, settled, err := settle(r, f)
	if err != nil {
		refuse(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	modified := s.modified(time.Now())
	if modified.IsZero() && r.Header.Get("If-Unmodified-Since") != "" {
		// In whole seconds nobody can tell this version from the one before it.
		refuse(w, r, http.StatusPreconditionFailed, "the file changed just now")
		return
	}
	head := w.Header()
	head.Set("Etag", s.etag(settled))
	head.Set("Content-Type", contentType(name))
	head.Set("X-Content-Type-Options", "nosniff")
	if h.Untrusted != nil && h.Untrusted(name) {
		head.Set("Content-Disposition", "attachment")
	}
	plain := &writer{w, f, s}
	var out http.ResponseWriter = plain
	d := h.Describing.describe(w, r, s, settled, h.reopen(name))
	if d != nil {
		defer d.close()
		out = &describer{plain, d, nil}
	}
	// That of content information would be another, and of no use.
	if want := r.Header.Values("Want-Repr-Digest"); len(want) > 0 && settled && d == nil {
		d, err := h.Digests.header(r.Context(), want, f, s)
		if err != nil {
			refuse(w, r, http.StatusInternalServerError, err.Error())
			return
		}
		if d != "" {
			head.Set("Repr-Digest", d)
		}
	}
	http.ServeContent(out, r, "", modified, f)
}

// contentType goes by the name alone: to look into the file would take what somebody uploaded
// for what it pretends to be.
func contentType(name string) string {
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

// tail is how much of an answer is held back until the file was looked at once more.
const tail = 16 << 10

// writer breaks an answer off before its end if somebody wrote to the file while it was sent:
// the client must not take a mixture for a version.
type writer struct {
	http.ResponseWriter
	file *os.File
	was  stamp
}

// ReadFrom implements io.ReaderFrom. It leaves the file visible to what is below it, for sendfile.
func (w *writer) ReadFrom(src io.Reader) (int64, error) {
	all, ok := src.(*io.LimitedReader)
	if !ok {
		return io.Copy(w.ResponseWriter, src)
	}
	var sent int64
	if all.N > tail {
		n, err := io.Copy(w.ResponseWriter, &io.LimitedReader{R: all.R, N: all.N - tail})
		all.N -= n
		if sent = n; err != nil || all.N > tail {
			return sent, err
		}
	}
	if info, err := w.file.Stat(); err != nil || !w.was.sameContent(info) {
		panic(http.ErrAbortHandler) // a length was promised, so nothing milder would be noticed
	}
	n, err := io.Copy(w.ResponseWriter, all)
	return sent + n, err
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ETag returns the entity tag of an open file.
func ETag(r *http.Request, f *os.File) (string, error) {
	s, settled, err := settle(r, f)
	if err != nil {
		return "", err
	}
	return s.etag(settled), nil
}

// refuse answers with a status and no more than its text; the log gets the reason.
func refuse(w http.ResponseWriter, r *http.Request, status int, reason string) {
	record.Why(r.Context(), "%s", reason)
	http.Error(w, fmt.Sprintf("%d %s", status, http.StatusText(status)), status)
}
