package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/serve"
)

// systemServeState is where the machine's server keeps what it keeps, if it runs as
// packaging/systemd/system/ebb-serve.service says.
const systemServeState = "/var/lib/ebb-serve"

// movedSecret is what the verbs tell with --json.
type movedSecret struct {
	Secret string `json:"secret"` // the server's file
	File   string `json:"file"`   // the sealed one
	Bytes  int    `json:"bytes"`  // of the secret
}

func newPeersSecretCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Carry a server's BranchCache secret to another server",
		Long: `Carry the secret from which ` + "`ebb serve --branchcache`" + ` derives the keys of its files
to another server of the same URLs: machines then share what they got from either. The
file between them is that of Windows' Export-BCSecretKey and Import-BCSecretKey. It is
sealed with a passphrase, which can be tried out by who has the file: delete it when it
did its work.`,
		Example: `  ebb peers secret export /media/stick/secret.key
  ebb peers secret import /media/stick/secret.key --secret /etc/ebb/branchcache.secret`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPeersSecretExportCmd(a), newPeersSecretImportCmd(a))
	return cmd
}

func newPeersSecretExportCmd(a *app) *cobra.Command {
	var secret, from string
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Write a server's secret to a file, sealed with a passphrase",
		Long: `Write a server's secret to a new file, sealed with a passphrase: it is asked for on a
terminal, or is the first line of the input or of a file. Without --secret it is the
secret of the only server of yours that has one, or of the machine's.`,
		Example: `  ebb peers secret export secret.key
  ebb peers secret export secret.key --secret /etc/ebb/branchcache.secret --from passphrase.txt`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := secretFile(secret)
			if err != nil {
				return err
			}
			p, err := serve.ReadSecret(name)
			if err != nil {
				return err
			}
			passphrase, err := a.newPassphrase(from)
			if err != nil {
				return err
			}
			if err := createSecretly(args[0], peerdist.ExportSecret(p, passphrase)); err != nil {
				return err
			}
			return a.tellSecret(movedSecret{Secret: name, File: args[0], Bytes: len(p)}, "the secret %s is in %s\n", name, args[0])
		},
	}
	cmd.Flags().StringVar(&secret, "secret", "", "the server's `file`: that of --branchcache-secret, or branchcache.secret in its state directory")
	cmd.Flags().StringVar(&from, "from", "", "`file` whose first line is the passphrase; - is the input")
	return cmd
}

func newPeersSecretImportCmd(a *app) *cobra.Command {
	var secret, from string
	var over bool
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take over a secret that another server exported",
		Long: `Take over the secret that another server exported, ` + "`ebb`" + ` or Windows with
Export-BCSecretKey. A server uses it from its next start on. What machines have cached
of files that it described with another secret is of no more use then, so one that is
there is only replaced with --replace.`,
		Example: `  ebb peers secret import secret.key --secret /etc/ebb/branchcache.secret
  ebb peers secret import secret.key --replace`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			name, err := secretFile(secret)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			sealed, err := io.ReadAll(io.LimitReader(f, maxSecret))
			if err != nil {
				return err
			}
			passphrase, err := a.secretFrom(from)
			if err != nil {
				return err
			}
			p, err := peerdist.ImportSecret(sealed, passphrase)
			if err != nil {
				return usagef("%s: %w", args[0], err)
			}
			old, err := serve.ReadSecret(name)
			switch {
			case errors.Is(err, fs.ErrNotExist):
			case err != nil && !over:
				return err
			case !bytes.Equal(old, p) && !over:
				return hinted(&exitError{code: exitState, err: fmt.Errorf("%s has another secret, and what machines have cached needs that", name)}, "give --replace")
			}
			if err := serve.WriteSecret(name, p); err != nil {
				return err
			}
			return a.tellSecret(movedSecret{Secret: name, File: args[0], Bytes: len(p)}, "%s has the secret of %s; a server that runs uses it from its next start on\n", name, args[0])
		},
	}
	cmd.Flags().StringVar(&secret, "secret", "", "the server's `file`: that of --branchcache-secret, or branchcache.secret in its state directory")
	cmd.Flags().StringVar(&from, "from", "", "`file` whose first line is the passphrase; - is the input")
	cmd.Flags().BoolVar(&over, "replace", false, "replace another secret that the server has")
	return cmd
}

func (a *app) tellSecret(m movedSecret, format string, args ...any) error {
	switch {
	case a.json:
		return a.printJSON(m)
	case !a.quiet:
		for i, arg := range args {
			args[i] = a.place(arg.(string))
		}
		a.printf(format, args...)
	}
	return nil
}

// secretFile returns the file of a server's secret: the given one, or else the only one that there is.
func secretFile(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	var found []string
	if home := client.UserState(); home != "" {
		found, _ = filepath.Glob(filepath.Join(home, "serve", "*", serve.SecretName))
	}
	if system := filepath.Join(systemServeState, serve.SecretName); len(found) == 0 {
		if _, err := os.Stat(system); err == nil {
			found = []string{system}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", hinted(&exitError{code: exitState, err: errors.New("no server here has a secret")}, "name its file with --secret; `ebb serve --branchcache` makes one when it starts")
	}
	return "", hinted(usagef("several servers have a secret: %s", strings.Join(found, ", ")), "name one with --secret")
}

// newPassphrase reads a passphrase that something is to be sealed with, from a terminal twice.
func (a *app) newPassphrase(from string) (string, error) {
	text, err := a.secretFrom(from)
	if err != nil {
		return "", err
	}
	if f, ok := a.in.(interface{ Fd() uintptr }); ok && from == "" && term.IsTerminal(int(f.Fd())) {
		again, err := a.readSecret()
		if err != nil {
			return "", err
		}
		if again != text {
			return "", usagef("the two passphrases differ")
		}
	}
	if text == "" {
		return "", usagef("the passphrase is empty")
	}
	return text, nil
}

// createSecretly makes a file for its owner alone. There must be none of that name.
func createSecretly(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(name)
	}
	return err
}
