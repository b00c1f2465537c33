package servers

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// Tus starts an independent tus server, that of the npm packages @tus/server and @tus/file-store,
// which keeps its uploads in dir and makes them at URL+"/files". The first start installs the
// packages in the user's cache directory.
func Tus(dir string, o Options) (*Server, error) { return start(tusServer, dir, o) }

var tusServer = kind{
	name: "the tus server", program: "node", pkg: "nodejs npm",
	lacks: func(o Options) string {
		if o != (Options{}) {
			return "options"
		}
		return ""
	},
	prepare: func(c config) ([]string, error) {
		installed, err := npm("tusserver")
		return []string{filepath.Join(installed, "server.mjs"), c.dir, strconv.Itoa(c.port)}, err
	},
}

//go:embed npm
var packages embed.FS

// npm installs what the package.json of a directory of packages asks for, at the versions of its
// package-lock.json, and returns where, with the directory's other files beside it.
func npm(name string) (string, error) {
	from := path.Join("npm", name)
	lock, err := packages.ReadFile(path.Join(from, "package-lock.json"))
	if err != nil {
		return "", err
	}
	program, err := exec.LookPath("npm")
	if err != nil {
		return "", notInstalled("npm", "apt-get install nodejs npm")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	digest := sha256.Sum256(lock)
	to := filepath.Join(cache, "ebb-test", "npm-"+name+"-"+hex.EncodeToString(digest[:6]))
	if _, err := os.Stat(filepath.Join(to, "node_modules")); err != nil {
		if err := install(program, from, to); err != nil {
			return "", err
		}
	}
	return to, copyFiles(from, to) // what is ours may have changed
}

// install makes the directory to appear with everything in it.
func install(program, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	made, err := os.MkdirTemp(filepath.Dir(to), "new-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(made) }()
	if err := copyFiles(from, made); err != nil {
		return err
	}
	cmd := exec.Command(program, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	cmd.Dir = made
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the npm package %s %w: %w: %s", path.Base(from), ErrNotInstalled, err, strings.TrimSpace(string(said)))
	}
	err = os.Rename(made, to)
	if _, exists := os.Stat(filepath.Join(to, "node_modules")); exists == nil {
		return nil // another test was faster
	}
	return err
}

func copyFiles(from, to string) error {
	files, err := fs.ReadDir(packages, from)
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := packages.ReadFile(path.Join(from, f.Name()))
		if err != nil {
			return err
		}
		name := filepath.Join(to, f.Name())
		if old, err := os.ReadFile(name); err == nil && string(old) == string(b) {
			continue
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
