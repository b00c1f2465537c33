package cache

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

func TestExportAndImport(t *testing.T) {
	body := random(300000, 3)
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.SHA512, peerdist.TruncatedSHA512} {
		from, to := opened(t, filepath.Join(t.TempDir(), "from"), wide), opened(t, filepath.Join(t.TempDir(), "to"), wide)
		all := segments(t, body, a)
		var want Copied
		for i := range all {
			want.Segments++
			for j := range all[i].Blocks() {
				if a != peerdist.TruncatedSHA512 && j == 1 {
					continue // one that is not here
				}
				put(t, from, &all[i], body, j)
				want.Blocks++
			}
		}
		want.Bytes = from.Used()
		var archive bytes.Buffer
		if got, err := from.Export(t.Context(), &archive, nil); err != nil || got != want {
			t.Errorf("exported %+v, want %+v: %v", got, want, err)
		}
		if got, err := to.Import(t.Context(), bytes.NewReader(archive.Bytes())); err != nil || got != want {
			t.Errorf("imported %+v, want %+v: %v", got, want, err)
		}
		for i := range all {
			s := &all[i]
			for j := range s.Blocks() {
				got, err := to.Read(s.ID(), j, nil)
				if held := a == peerdist.TruncatedSHA512 || j != 1; held != (err == nil) || held && (!bytes.Equal(got.Data, block(s, body, j)) || !bytes.Equal(got.Secret, s.Secret)) {
					t.Errorf("block %d of segment %d: %v", j, i, err)
				}
			}
		}
		// One segment, and one that has gone in the meantime.
		archive.Reset()
		got, err := from.Export(t.Context(), &archive, [][]byte{all[0].ID(), random(32, 9)})
		if err != nil || got.Segments != 1 {
			t.Errorf("exported %+v: %v", got, err)
		}
		if n, err := to.Count(); err != nil || n != len(all) {
			t.Errorf("%d segments are here, want %d: %v", n, len(all), err)
		}
	}
}

// A block that rots on the disk does not travel.
func TestRottenBlockIsNotExported(t *testing.T) {
	body := random(200000, 4)
	c := opened(t, filepath.Join(t.TempDir(), "cache"), wide)
	s := &segments(t, body, peerdist.SHA256)[0]
	for i := range s.Blocks() {
		put(t, c, s, body, i)
	}
	f, err := os.OpenFile(c.path(s.ID(), data), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("rot"), peerdist.BlockSize+5); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var archive bytes.Buffer
	if got, err := c.Export(t.Context(), &archive, nil); err != nil || got.Blocks != s.Blocks()-1 {
		t.Errorf("exported %+v: %v", got, err)
	}
}

// item is an entry of an archive that a test makes.
type item struct {
	name string
	data []byte
	kind byte
}

func archiveOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Typeflag: i.kind, Size: int64(len(i.data)), Mode: 0o644, ModTime: time.Unix(1, 0)}
		if i.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if i.kind == tar.TypeSymlink {
			h.Linkname, h.Size = "/etc/passwd", 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(i.data[:h.Size]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHostileArchives(t *testing.T) {
	body, other := random(200000, 5), random(200000, 6)
	s, o := &segments(t, body, peerdist.SHA256)[0], &segments(t, other, peerdist.SHA256)[0]
	id := hex.EncodeToString(s.ID())
	begin, info, first := item{name: formatName, data: []byte(formatText)}, item{name: id + "/info", data: alone(s)}, item{name: id + "/0", data: block(s, body, 0)}
	unproven := *s
	unproven.Hashes = unproven.Hashes[:32]
	root := filepath.Join(t.TempDir(), "cache")
	for _, c := range []struct {
		name  string
		items []item
		want  Copied
		err   error
	}{
		{name: "good", items: []item{begin, info, first}, want: Copied{Segments: 1, Blocks: 1, Bytes: 65536}},
		{name: "nothing", err: ErrFormat},
		{name: "no beginning", items: []item{info, first}, err: ErrFormat},
		{name: "another version", items: []item{{name: formatName, data: []byte("2\n")}, info}, err: ErrFormat},
		{name: "a way out", items: []item{begin, info, {name: "../../x", data: first.data}}, err: ErrFormat},
		{name: "an absolute name", items: []item{begin, {name: "/" + id + "/info", data: info.data}}, err: ErrFormat},
		{name: "a link", items: []item{begin, info, {name: id + "/0", data: first.data, kind: tar.TypeSymlink}}, err: ErrFormat},
		{name: "a directory", items: []item{begin, {name: id + "/", kind: tar.TypeDir}}, err: ErrFormat},
		{name: "a file of another kind", items: []item{begin, {name: "README", data: []byte("x")}}, err: ErrFormat},
		{name: "a block without a segment", items: []item{begin, first}, err: ErrFormat},
		{name: "a block of another segment", items: []item{begin, info, {name: hex.EncodeToString(o.ID()) + "/0", data: block(o, other, 0)}}, want: Copied{Segments: 1}, err: ErrFormat},
		{name: "a large block", items: []item{begin, info, {name: id + "/0", data: make([]byte, peerdist.MaxSegment2+1)}}, want: Copied{Segments: 1}, err: ErrFormat},
		{name: "a large description", items: []item{begin, {name: id + "/info", data: make([]byte, maxMeta+1)}}, err: ErrFormat},
		{name: "wrong bytes", items: []item{begin, info, {name: id + "/0", data: block(o, other, 0)}, {name: id + "/1", data: block(s, body, 1)}}, want: Copied{Segments: 1, Blocks: 1, Bytes: 65536, Damaged: 1}},
		{name: "a block that there is not", items: []item{begin, info, {name: id + "/511", data: first.data}, {name: id + "/-1", data: first.data}}, want: Copied{Segments: 1, Damaged: 2}},
		{name: "another's id", items: []item{begin, {name: hex.EncodeToString(o.ID()) + "/info", data: alone(s)}, {name: hex.EncodeToString(o.ID()) + "/0", data: first.data}}, want: Copied{Damaged: 2}},
		{name: "rubbish for a description", items: []item{begin, {name: id + "/info", data: []byte("x")}, first}, want: Copied{Damaged: 2}},
		{name: "hashes that nothing proves", items: []item{begin, {name: id + "/info", data: alone(&unproven)}, first}, want: Copied{Damaged: 2}},
	} {
		cache := opened(t, filepath.Join(root, strings.ReplaceAll(c.name, " ", "-")), wide)
		got, err := cache.Import(t.Context(), bytes.NewReader(archiveOf(t, c.items...)))
		want := c.want
		if c.err != nil && want == (Copied{}) {
			want.Segments = got.Segments
		}
		if !errors.Is(err, c.err) || c.err == nil && err != nil || got != want {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if cache.Used() != c.want.Bytes {
			t.Errorf("%s: the cache has %d bytes", c.name, cache.Used())
		}
	}
	if names, err := filepath.Glob(filepath.Join(root, "x")); err != nil || names != nil {
		t.Errorf("%v is there: %v", names, err)
	}

	// One that breaks off, and one that has more than there may be.
	good := archiveOf(t, begin, info, first, item{name: id + "/1", data: block(s, body, 1)})
	c := opened(t, filepath.Join(root, "short"), wide)
	if got, err := c.Import(t.Context(), bytes.NewReader(good[:len(good)/2])); err == nil || got.Damaged != 0 {
		t.Errorf("one that breaks off: %+v, %v", got, err)
	}
	c = opened(t, filepath.Join(root, "small"), Limits{Size: 100_000, MaxAge: time.Hour})
	if got, err := c.Import(t.Context(), bytes.NewReader(good)); !errors.Is(err, ErrFull) || c.Used() > 100_000+peerdist.BlockSize {
		t.Errorf("one that is too large: %+v, %v; the cache has %d bytes", got, err, c.Used())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Import(ctx, bytes.NewReader(good)); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := c.Export(ctx, io.Discard, nil); c.Used() > 0 && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestFind(t *testing.T) {
	body := random(3<<20, 7)
	c := opened(t, filepath.Join(t.TempDir(), "cache"), wide)
	all := segments(t, body, peerdist.TruncatedSHA512)
	for i := range all {
		put(t, c, &all[i], body, 0)
	}
	id := hex.EncodeToString(all[0].ID())
	for _, prefix := range []string{id, strings.ToUpper(id), id[:16]} {
		if got, err := c.Find(prefix); err != nil || !bytes.Equal(got, all[0].ID()) {
			t.Errorf("%s: %x, %v", prefix, got, err)
		}
	}
	for _, prefix := range []string{"", id[:3], id[:8] + "zz", "../" + id[:8], id + "00", "*", strings.Repeat("a", 64)} {
		if got, err := c.Find(prefix); !errors.Is(err, ErrNotHeld) {
			t.Errorf("%q: %x, %v", prefix, got, err)
		}
	}
	// A second one that begins so.
	twin := append([]byte(nil), all[0].ID()...)
	twin[31] ^= 1
	for _, suffix := range []string{meta, data} {
		b, err := os.ReadFile(c.path(all[0].ID(), suffix))
		if err == nil {
			err = os.WriteFile(c.path(twin, suffix), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := c.Find(id[:16]); !errors.Is(err, ErrAmbiguous) {
		t.Errorf("%x, %v", got, err)
	}
}

// FuzzImport gives archives of anybody to a cache: nothing comes in that does not have its hash.
func FuzzImport(f *testing.F) {
	body := random(100, 8)
	s := &segments(f, body, peerdist.SHA256)[0]
	id := hex.EncodeToString(s.ID())
	f.Add(archiveOf(f, item{name: formatName, data: []byte(formatText)}, item{name: id + "/info", data: alone(s)}, item{name: id + "/0", data: block(s, body, 0)}))
	f.Add([]byte(formatName))
	f.Fuzz(func(t *testing.T, archive []byte) {
		c := opened(t, filepath.Join(t.TempDir(), "cache"), wide)
		done, _ := c.Import(t.Context(), bytes.NewReader(archive))
		if done.Bytes > int64(len(archive)) || done.Bytes < c.Used() {
			t.Fatalf("%+v of %d bytes; the cache has %d", done, len(archive), c.Used())
		}
		all, err := c.List()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			if held, err := c.Held(e.ID); err != nil || held == (Bitmap{}) {
				t.Fatal(err)
			}
		}
	})
}
