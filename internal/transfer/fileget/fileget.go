// Package fileget reads files of this machine, and of shares that are mounted here, in the place of
// a server: for the URLs file:///PATH and smb://SERVER/SHARE/PATH.
//
// It answers as httpget does, so that such a file is fetched, resumed and checked as any other. It
// opens nothing but regular files, with the rights of the job's owner.
package fileget

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// Is reports whether a URL is that of a file.
func Is(raw string) bool {
	return strings.HasPrefix(raw, "file:") || strings.HasPrefix(raw, "smb:")
}

// Path returns where a file is on this machine. Its error is of type *bits.Error.
func Path(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", &bits.Error{Code: bits.InvalidArg, Context: bits.ContextRemoteFile, File: raw, Message: fmt.Sprintf("%q is not a URL", raw), Cause: err}
	}
	if u.Scheme == "file" {
		return filepath.FromSlash(u.Path), nil
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", notMounted(u, err)
	}
	defer f.Close()
	dir, rest := find(f, u.Hostname(), u.Path)
	if dir == "" {
		return "", notMounted(u, nil)
	}
	return filepath.Join(dir, rest), nil
}

func notMounted(u *url.URL, cause error) error {
	share, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return &bits.Error{Code: bits.PathNotFound, Context: bits.ContextRemoteFile, File: u.String(), Cause: cause,
		Message: fmt.Sprintf("the share //%s/%s is not mounted on this machine; mount it, for instance with mount -t cifs, then resume the job", u.Hostname(), share)}
}

// find looks in a mount table (proc_pid_mountinfo(5)) for where a path of an SMB server is mounted:
// the mount that leads deepest into the path. It returns its directory and the rest of the path.
func find(table io.Reader, host, path string) (dir, rest string) {
	best := 0
	sc := bufio.NewScanner(table)
	for sc.Scan() {
		before, after, ok := strings.Cut(sc.Text(), " - ")
		mount, what := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(what) < 2 || what[0] != "cifs" && what[0] != "smb3" && what[0] != "smbfs" {
			continue
		}
		source := strings.Trim(strings.ReplaceAll(unescape(what[1]), `\`, "/"), "/")
		server, share, _ := strings.Cut(source, "/")
		// The part of the share that is mounted there; the names of shares have no case.
		prefix := "/" + strings.Trim(share+"/"+strings.Trim(unescape(mount[3]), "/"), "/")
		if !strings.EqualFold(server, host) || len(prefix) < best || len(path) <= len(prefix) || !strings.EqualFold(path[:len(prefix)], prefix) || path[len(prefix)] != '/' {
			continue
		}
		best, dir, rest = len(prefix), unescape(mount[4]), path[len(prefix)+1:]
	}
	return dir, rest
}

// unescape undoes what the kernel writes for blanks and backslashes in its tables.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`, `\043`, "#").Replace

// Open opens the file of a URL for reading.
func Open(o localfile.Owner, raw string) (*os.File, fs.FileInfo, error) {
	path, err := Path(raw)
	if err != nil {
		return nil, nil, err
	}
	f, err := o.Open(path)
	if err != nil {
		return nil, nil, sourceError(o, err, raw, path)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		f.Close()
		return nil, nil, sourceError(o, err, raw, path)
	}
	return f, info, nil
}

// sourceError gives a failure to read a source its code (client.md 5.3): it is about the remote file.
func sourceError(o localfile.Owner, err error, raw, path string) error {
	e := &bits.Error{Context: bits.ContextRemoteFile, File: raw, Cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Code, e.Message = bits.FileNotFound, fmt.Sprintf("the file %s does not exist", path)
		if _, derr := o.Look(filepath.Dir(path)); errors.Is(derr, fs.ErrNotExist) {
			e.Code = bits.PathNotFound
		}
	case errors.Is(err, fs.ErrPermission):
		e.Code, e.Message = bits.AccessDenied, fmt.Sprintf("the file %s may not be read", path)
	default:
		known := localfile.Err(err, path)
		e.Code, e.Message = known.Code, fmt.Sprintf("the file %s cannot be read: %v", path, err)
	}
	return e
}

// validator identifies a version of a file: where a server has an entity tag, a file has its inode
// and the times of its last changes.
func validator(info fs.FileInfo) httpget.Validator {
	is := localfile.VersionOf(info)
	return httpget.Validator{
		ETag:         fmt.Sprintf(`"%x-%x-%x-%x"`, is.Inode, is.Size, is.Modified, is.Changed),
		LastModified: info.ModTime().UTC().Format(http.TimeFormat),
		Size:         info.Size(),
	}
}

// Get opens the file of a request.
func Get(ctx context.Context, o localfile.Owner, r httpget.Request) (*httpget.Response, error) {
	f, info, err := Open(o, r.URL)
	if err != nil {
		return nil, err
	}
	v := validator(info)
	out := &httpget.Response{Body: body{ctx, f, r.URL, o}, Validator: v, Modified: info.ModTime(), Length: v.Size}
	if r.Offset == 0 {
		return out, nil
	}
	if !r.Validator.Same(v) || r.Offset > v.Size {
		out.Restart, out.Changed = "the file changed at its source", true
		return out, nil
	}
	if _, err := f.Seek(r.Offset, io.SeekStart); err != nil {
		f.Close()
		return nil, sourceError(o, err, r.URL, f.Name())
	}
	out.Offset, out.Length = r.Offset, v.Size-r.Offset
	return out, nil
}

// Changed tells why the file of a URL is not the version v any more; empty if it is.
func Changed(o localfile.Owner, raw string, v httpget.Validator) (string, error) {
	f, info, err := Open(o, raw)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if !v.Same(validator(info)) {
		return "the file changed at its source while it was copied", nil
	}
	return "", nil
}

// Rights returns what the flags name of the rights of the file of a URL, and why it is not the version v
// any more; that is empty if it is, or if v tells no version.
func Rights(o localfile.Owner, raw string, v httpget.Validator, what bits.ACLFlags) (*localfile.Rights, string, error) {
	f, info, err := Open(o, raw)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if v.Usable() && !v.Same(validator(info)) {
		return nil, "the file changed at its source while it was copied", nil
	}
	rights, err := localfile.RightsOf(f, what)
	return rights, "", err
}

// body reads a file until the transfer ends.
type body struct {
	ctx context.Context
	*os.File
	url   string
	owner localfile.Owner
}

func (b body) Read(p []byte) (int, error) {
	if err := context.Cause(b.ctx); err != nil {
		return 0, err
	}
	n, err := b.File.Read(p)
	if err != nil && err != io.EOF {
		err = sourceError(b.owner, err, b.url, b.Name())
	}
	return n, err
}
