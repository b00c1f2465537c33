package files

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
)

// listDir answers with the names in a directory.
func (h *Handler) listDir(w http.ResponseWriter, r *http.Request, dir *os.File) {
	entries, err := dir.ReadDir(-1)
	if err != nil {
		refuse(w, r, http.StatusInternalServerError, err.Error())
		return
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	var names []string
	for _, e := range entries {
		switch {
		case Hidden(e.Name()):
		case e.IsDir():
			names = append(names, e.Name()+"/")
		case e.Type().IsRegular() || e.Type()&fs.ModeSymlink != 0:
			names = append(names, e.Name())
		}
	}
	writeList(w, r, names)
}

// listTable answers with the names of a table.
func (h *Handler) listTable(w http.ResponseWriter, r *http.Request, t *Table) {
	if !h.Listing {
		refuse(w, r, http.StatusNotFound, "the group's files are not listed")
		return
	}
	writeList(w, r, t.names())
}

func writeList(w http.ResponseWriter, r *http.Request, names []string) {
	head := w.Header()
	head.Set("Content-Type", "text/html; charset=utf-8")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	head.Set("Cache-Control", "no-cache")
	if r.Method == http.MethodHead {
		return
	}
	out := bufio.NewWriter(w)
	_, _ = fmt.Fprint(out, "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>Files</title><style>body{font:16px/1.6 monospace;margin:2em}</style>\n")
	for _, n := range names {
		_, _ = fmt.Fprintf(out, "<a href=\"./%s\">%s</a><br>\n", html.EscapeString(escape(n)), html.EscapeString(n))
	}
	_ = out.Flush()
}

// escape writes a path for a URL.
func escape(name string) string { return (&url.URL{Path: name}).EscapedPath() }
