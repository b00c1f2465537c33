package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/audit"
	"github.com/ebbtransfer/ebb/internal/daemon"
	"github.com/ebbtransfer/ebb/internal/store"
)

// systemState is the directory of the system's service.
const systemState = "/var/lib/ebb"

func newDaemonCmd(a *app) *cobra.Command {
	c := daemon.Config{Version: ownVersion()}
	var verbose bool
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the service in the foreground",
		Long: `Run the service in the foreground, as systemd does. It logs to standard error,
ends on SIGTERM or SIGINT within two seconds, and reads its configuration again
when the file changes, and on SIGHUP. There is no need to call this by hand: the other verbs start the
user's service when none runs.

With --system it serves all users: a job belongs to who made it, and its files are
opened, renamed and deleted with the rights of that user only. Its socket is
/run/ebb/ebb.sock, its jobs are in /var/lib/ebb, its configuration is
/etc/ebb/policy.toml.`,
		Example: `  ebb daemon
  sudo ebb daemon --system`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			c.Log = slog.New(logHandler(a.err, level))
			slog.SetDefault(c.Log) // of what has no log of its own
			if c.Socket = a.socket; c.Socket == "" {
				c.Socket = os.Getenv("EBB_SOCKET")
			}
			if c.System {
				c.Socket = cmp.Or(c.Socket, client.SystemSocket)
				if !cmd.Flags().Changed("state") {
					c.State = systemState
				}
				for _, name := range []string{"HOME", "XDG_CONFIG_HOME"} {
					_ = os.Unsetenv(name) // it has no home: what is in that of who started it does not count
				}
			}
			if c.Socket == "" {
				c.Socket = client.UserSocket()
			}
			if c.State == "" || c.Socket == "" {
				return noPlace()
			}
			err := daemon.Run(cmd.Context(), c)
			switch {
			case errors.Is(err, context.Canceled):
				return nil
			case errors.Is(err, daemon.ErrLocked): // whoever started this one waits for the other
				return &exitError{code: exitState, err: err}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&c.System, "system", false, "serve all users of the machine; needs root, or the rights to act as other users")
	cmd.Flags().StringVar(&c.State, "state", client.UserState(), "`directory` of the job store")
	cmd.Flags().StringVar(&c.Policy, "config", "", "configuration `file` (see `ebb policy --help` for where it is else)")
	cmd.Flags().StringVar(&c.Metrics, "metrics", "", "`address` for Prometheus to read from, such as 127.0.0.1:9101, without a host one of this machine only; always on the socket, at /v1/metrics")
	cmd.Flags().DurationVar(&c.IdleExit, "idle-exit", 0, "end after so long without work; 0 means never")
	cmd.Flags().BoolVar(&verbose, "verbose", false, "log more")
	cmd.AddCommand(newRestoreCmd(a))
	return cmd
}

// logHandler returns where the service's log goes: to systemd's journal, with fields, if that is what
// standard error leads to, else to standard error as text.
func logHandler(stderr io.Writer, level slog.Level) slog.Handler {
	if stderr == io.Writer(os.Stderr) {
		if is, err := journal.StderrIsJournalStream(); err == nil && is {
			if h, err := audit.NewJournal(audit.Socket, level); err == nil {
				return h
			}
		}
	}
	return slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})
}

// noPlace is the error of a service without directories.
func noPlace() error {
	return hinted(usagef("there is no place for the service's jobs and its socket: %w", client.ErrNoHome), "give --state and --socket, or set HOME or XDG_STATE_HOME")
}

// restored is what restore did, for programs.
type restored struct {
	Backup time.Time `json:"backup"` // when the backup was made
	Aside  string    `json:"aside"`  // where the store is that was there
}

func newRestoreCmd(a *app) *cobra.Command {
	var state, from string
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Put the last backup of the job store in its place",
		Long: `Put the backup that the service made at its last start in the place of the job
store. With --from, put back a store that the service had set aside: one made by a
newer version, say, once that version is installed again. The present store is set
aside, not deleted. The service must not run.`,
		Example: `  ebb daemon restore
  ebb daemon restore --state /var/lib/ebb
  ebb daemon restore --from ~/.local/state/ebb/ebb.db.unusable-20260301T120000.000`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if state == "" {
				return noPlace()
			}
			unlock, err := daemon.Lock(state)
			if errors.Is(err, daemon.ErrLocked) {
				return fmt.Errorf("%w %s: stop it first; `ebb version` tells its process, which ends on SIGTERM", err, state)
			}
			if err != nil {
				return err
			}
			defer unlock()
			var made time.Time
			var aside string
			if from != "" {
				st, err := os.Stat(from)
				if err != nil {
					return err
				}
				made = st.ModTime()
				if aside, err = store.RestoreAside(state, from, time.Now()); err != nil {
					return err
				}
			} else if made, aside, err = store.Restore(state, time.Now()); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(restored{made, aside})
			}
			_, err = fmt.Fprintf(a.out, "the store of %s is in place; the one that was there is now %s\n", made.Local().Format(time.DateTime), a.place(aside))
			return err
		},
	}
	cmd.Flags().StringVar(&state, "state", client.UserState(), "`directory` of the job store")
	cmd.Flags().StringVar(&from, "from", "", "a `store` that was set aside, instead of the backup")
	return cmd
}
