package put

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
	"github.com/ebbtransfer/ebb/internal/transfer/upload/uploadtest"
	"github.com/ebbtransfer/ebb/test/servers"
)

func nginx(t *testing.T, o servers.Options) (*servers.Server, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := servers.Nginx(dir, o)
	if err != nil {
		if errors.Is(err, servers.ErrNotInstalled) {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, dir
}

func TestUploadToNginx(t *testing.T) {
	s, dir := nginx(t, servers.Options{Uploads: true})
	c := New(uploadtest.Client())
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		for _, n := range []int{0, 1, 100 << 10, 300 << 10, 5<<20 + 7} {
			name := "ä b%" + strconv.Itoa(n) + "-" + strconv.Itoa(int(class))
			data := uploadtest.Bytes(n, byte(n))
			task := uploadtest.New(t, s.URL+"/", uploadtest.NewSource(name, data))
			task.Class = class
			if err := c.Upload(t.Context(), task.Task); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("the server has %d bytes (%v) that are not the file's %d", len(got), err, n)
			}
			want := upload.State{Protocol: upload.Put, Offset: int64(n), Done: true}
			if saved := task.Saved(); len(saved) != 1 || saved[0].Offset != want.Offset || !saved[0].Done || saved[0].Protocol != want.Protocol {
				t.Errorf("saved %+v, want %+v once", saved, want)
			}
			if task.MostSent() != int64(n) {
				t.Errorf("told of %d bytes, want %d", task.MostSent(), n)
			}
		}
	}
}

func TestARefusalCostsNoByte(t *testing.T) {
	s, _ := nginx(t, servers.Options{Uploads: true, BodyLimit: 1 << 20})
	task := uploadtest.New(t, s.URL+"/large", uploadtest.NewSource("large", uploadtest.Bytes(8<<20, 1)))
	err := New(uploadtest.Client()).Upload(t.Context(), task.Task)
	if !errors.Is(err, &bits.Error{Code: bits.HTTPStatus(413)}) || task.MostSent() != 0 {
		t.Errorf("error %v after %d bytes, want 413 after none", err, task.MostSent())
	}
}
