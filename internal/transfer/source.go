package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
)

// source is the file that is uploaded, as an upload.Source.
type source struct {
	f    *os.File
	path string
	want localfile.Version
}

// openSource opens a file for its upload.
func openSource(owner localfile.Owner, path string) (*source, error) {
	f, err := owner.Open(path)
	if err != nil {
		return nil, sourceError(err, path)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, sourceError(err, path)
	}
	return &source{f: f, path: path, want: localfile.VersionOf(info)}, nil
}

// CheckSource says whether its owner can upload a file, and its size in bytes. The error is a
// *bits.Error.
func CheckSource(owner localfile.Owner, path string) (size int64, err error) {
	s, err := openSource(owner, path)
	if err != nil {
		return 0, err
	}
	defer s.f.Close()
	return s.want.Size, nil
}

func sourceError(err error, path string) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &bits.Error{Code: bits.FileNotFound, Context: bits.ContextLocalFile, File: path, Message: fmt.Sprintf("the file %s does not exist", path), Cause: err}
	}
	if e := localfile.Err(err, path); e.Code != bits.Unexpected {
		return e
	}
	return &bits.Error{Code: bits.Unexpected, Context: bits.ContextLocalFile, File: path, Message: fmt.Sprintf("the file %s cannot be read: %v", path, err), Cause: err}
}

// clockTick is longer than the steps in which file systems keep times: a change that follows
// another one within it shows in no date.
const clockTick = 20 * time.Millisecond

// settle waits until a change of the file from now on would show in its dates.
func (s *source) settle(ctx context.Context) error {
	last := time.Unix(0, max(s.want.Modified, s.want.Changed))
	if age := time.Since(last); age < 0 || age > clockTick {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(clockTick):
	}
	info, err := s.f.Stat()
	if err != nil {
		return sourceError(err, s.path)
	}
	s.want = localfile.VersionOf(info)
	return nil
}

// ReadAt reads the file, and fails with LocalFileChanged if it is not the one that it should be.
func (s *source) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.f.ReadAt(p, off)
	// After the read: bytes that were changed before it are not let through.
	if cerr := s.check(); cerr != nil {
		return 0, cerr
	}
	if err != nil && err != io.EOF {
		err = sourceError(err, s.path)
	}
	return n, err
}

func (s *source) check() error {
	info, err := s.f.Stat()
	if err != nil {
		return sourceError(err, s.path)
	}
	if localfile.VersionOf(info) != s.want {
		return s.changed()
	}
	return nil
}

func (s *source) changed() error {
	return &bits.Error{Code: bits.LocalFileChanged, Context: bits.ContextLocalFile, File: s.path, Message: fmt.Sprintf("%s was changed or replaced while it was uploaded", s.path)}
}

func (s *source) Size() int64         { return s.want.Size }
func (s *source) Name() string        { return filepath.Base(s.path) }
func (s *source) Modified() time.Time { return time.Unix(0, s.want.Modified) }
func (s *source) Close() error        { return s.f.Close() }
