package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/serve"
	"github.com/ebbtransfer/ebb/internal/serve/access"
)

// systemServers is where the socket of the machine's server is, if it runs as
// packaging/systemd/system/ebb-serve.service says.
const systemServers = "/run/ebb-serve"

// server returns the server that runs: the one on --socket, else the only one of the user's or, if
// he has none, of the machine's.
func (a *app) server() (*serve.Client, error) {
	if a.socket != "" {
		return serve.NewClient(a.socket), nil
	}
	for _, dir := range []string{filepath.Dir(client.UserSocket()), systemServers} {
		var found []string
		for _, s := range serve.Sockets(dir) {
			if serve.Answers(s) {
				found = append(found, s)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return serve.NewClient(found[0]), nil
		default:
			return nil, hinted(usagef("several servers run: %s", strings.Join(found, ", ")), "name the socket of one with --socket")
		}
	}
	return nil, serverError(serve.ErrNoServer)
}

// serverError gives an error of a server its exit code.
func serverError(err error) error {
	var p *serve.Problem
	switch {
	case errors.Is(err, serve.ErrNoServer):
		return &exitError{code: exitNoService, err: err, hint: "start it with `ebb serve`, or name its socket with --socket"}
	case !errors.As(err, &p):
		return err
	}
	code := exitFailed
	switch p.Status {
	case http.StatusBadRequest:
		code = exitUsage
	case http.StatusForbidden:
		code = exitNotAllowed
	case http.StatusNotFound:
		code = exitNoJob
	case http.StatusConflict:
		code = exitState
	}
	return &exitError{code: code, err: err}
}

func newServeUploadsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "uploads",
		Short: "List the uploads that are under way at a server",
		Long: `List the uploads that are under way at a server. With --json there are also those
that are done and kept for their client to close, or to fetch its reply: they are
"published".`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			list, err := c.Uploads(cmd.Context())
			if err != nil {
				return serverError(err)
			}
			if a.json {
				return a.printJSON(list)
			}
			a.printSessions(list)
			return nil
		},
	}
}

// printSessions lists what is under way.
func (a *app) printSessions(list []serve.Upload) {
	const form = "%-32s  %-8s  %21s  %-19s  %s\n"
	header := false
	for _, u := range list {
		if u.Published {
			continue
		}
		if !header {
			header = true
			a.printf(form, "ID", "PROTOCOL", "BYTES", "LAST PROGRESS", "TARGET")
		}
		total := "?"
		if u.Size >= 0 {
			total = size(u.Size)
		}
		target := u.Group + u.Target
		switch {
		case u.Protocol == "held": // see internal/serve/session/bucket
			target = "bytes of an upload to " + u.Group + ", until they are checked"
		case u.Target == "":
			target = "part of a file in " + u.Group
		}
		if u.Principal != "" {
			target += "  of " + u.Principal
		}
		a.printf(form, u.ID, u.Protocol, size(u.Offset)+" / "+total, u.Touched.Local().Format(time.DateTime), safe(target))
	}
}

func newServeCleanupCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "cleanup",
		Short: "Remove uploads that nobody went on with for too long",
		Long: `Remove the upload sessions that had no progress for their group's session_timeout.
The server does so by itself every 12 hours, or as often as "cleanup" says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			done, err := c.Cleanup(cmd.Context())
			if err != nil {
				return serverError(err)
			}
			if a.json {
				return a.printJSON(done)
			}
			a.printf("%d removed\n", done.Removed)
			return nil
		},
	}
}

func newServePasswordCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "password",
		Short: "Hash a password for the configuration file",
		Long: `Read a password, from the terminal or the standard input, and print its hash for
[users.NAME] in the configuration file of ebb serve.`,
		Example: `  ebb serve password
  pwgen 20 1 | tee /dev/tty | ebb serve password`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			secret, err := a.readSecret()
			if err != nil {
				return err
			}
			hash, err := access.Hash(secret)
			if err != nil {
				return usagef("%w", err)
			}
			a.printf("password = %q\n", hash)
			return nil
		},
	}
}

// maxSecret is more than the longest password has, in bytes.
const maxSecret = 512 << 10

// readSecret reads a line, without showing it on a terminal.
func (a *app) readSecret() (string, error) {
	if f, ok := a.in.(interface{ Fd() uintptr }); ok && term.IsTerminal(int(f.Fd())) {
		_, _ = fmt.Fprint(a.err, "password: ")
		b, err := term.ReadPassword(int(f.Fd()))
		_, _ = fmt.Fprintln(a.err)
		return string(b), err
	}
	line, err := bufio.NewReader(io.LimitReader(a.in, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
