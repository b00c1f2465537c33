package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

func open(t *testing.T, dir string) *Vault {
	t.Helper()
	v, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSealedOpensForItsJobAndKindOnly(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	dir := t.TempDir()
	v, job := open(t, dir), bits.NewID()
	sealed := v.Seal([]byte("geheim"), job, "credential server basic")
	if bytes.Contains(sealed, []byte("geheim")) {
		t.Fatal("the secret is in clear")
	}
	if again := v.Seal([]byte("geheim"), job, "credential server basic"); bytes.Equal(again, sealed) {
		t.Error("the same secret is sealed the same way twice")
	}
	for _, w := range []*Vault{v, open(t, dir)} { // also after a restart
		if plain, err := w.Open(sealed, job, "credential server basic"); err != nil || string(plain) != "geheim" {
			t.Errorf("opened %q, %v", plain, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := v.Open(bad, job, "credential server basic"); err == nil {
			t.Fatalf("byte %d changed, and it opens", i)
		}
		if _, err := v.Open(sealed[:i], job, "credential server basic"); err == nil {
			t.Fatalf("the first %d bytes open", i)
		}
	}
	if _, err := v.Open(sealed, bits.NewID(), "credential server basic"); !errors.Is(err, ErrDamaged) {
		t.Errorf("for another job: %v", err)
	}
	if _, err := v.Open(sealed, job, "credential proxy basic"); !errors.Is(err, ErrDamaged) {
		t.Errorf("as another kind: %v", err)
	}
	if _, err := open(t, t.TempDir()).Open(sealed, job, "credential server basic"); !errors.Is(err, ErrKey) {
		t.Errorf("with another key: %v", err)
	}
	if plain, err := v.Open(v.Seal(nil, job, "x"), job, "x"); err != nil || len(plain) != 0 {
		t.Errorf("the empty secret opens as %q, %v", plain, err)
	}
}

func TestServiceManagerGivesTheKey(t *testing.T) {
	given, dir, job := t.TempDir(), t.TempDir(), bits.NewID()
	name := filepath.Join(given, CredentialName)
	if err := os.WriteFile(name, bytes.Repeat([]byte("k"), 64), 0o440); err != nil { // the mode that systemd uses
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", given)
	sealed := open(t, dir).Seal([]byte("x"), job, "k")
	if _, err := os.Stat(filepath.Join(dir, KeyName)); err == nil {
		t.Error("a key file was made as well")
	}
	if _, err := open(t, t.TempDir()).Open(sealed, job, "k"); err != nil {
		t.Errorf("the same credential elsewhere: %v", err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir).Open(sealed, job, "k"); !errors.Is(err, ErrKey) {
		t.Errorf("without the credential: %v", err)
	}
}

func TestKeyFileThatIsNotPrivateIsRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there are no modes here")
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	for name, spoil := range map[string]func(t *testing.T, key string){
		"has the mode": func(t *testing.T, key string) {
			if err := os.Chmod(key, 0o640); err != nil {
				t.Fatal(err)
			}
		},
		"has 5 bytes": func(t *testing.T, key string) {
			if err := os.WriteFile(key, []byte("short"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"more than": func(t *testing.T, key string) {
			if err := os.WriteFile(key, make([]byte, maxKey+1), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"symbolic links": func(t *testing.T, key string) {
			if err := errors.Join(os.Rename(key, key+"2"), os.Symlink(key+"2", key)); err != nil {
				t.Fatal(err)
			}
		},
		"is not a file": func(t *testing.T, key string) {
			if err := errors.Join(os.Remove(key), os.Mkdir(key, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		dir := t.TempDir()
		open(t, dir)
		key := filepath.Join(dir, KeyName)
		if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
			t.Fatalf("the key file: %v, %v", info, err)
		}
		spoil(t, key)
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want an error with %q, got %v", name, err)
		}
	}
}

// TestOneKeyWins makes vaults in one new directory at the same time: all have the same key.
func TestOneKeyWins(t *testing.T) {
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	dir, job := t.TempDir(), bits.NewID()
	vaults := make([]*Vault, 20)
	var wg sync.WaitGroup
	for i := range vaults {
		wg.Go(func() {
			v, err := Open(dir)
			if err != nil {
				t.Error(err)
			}
			vaults[i] = v
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	sealed := vaults[0].Seal([]byte("x"), job, "k")
	for _, v := range vaults {
		if _, err := v.Open(sealed, job, "k"); err != nil {
			t.Fatal(err)
		}
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("left over: %v", names)
	}
}

func FuzzOpen(f *testing.F) {
	f.Setenv("CREDENTIALS_DIRECTORY", "")
	v, err := Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	job := bits.NewID()
	f.Add(v.Seal([]byte("x"), job, "k"))
	f.Add([]byte{})
	f.Add([]byte{format, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if plain, err := v.Open(sealed, job, "k"); err == nil && string(plain) != "x" {
			t.Fatalf("%x opens as %q", sealed, plain)
		}
	})
}
