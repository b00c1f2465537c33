// Command ebb is Ebb's command line and its service. Each verb has a file of its own that
// parses, calls the client and prints; it knows nothing of how the service works.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/internal/notify/helper"
	"github.com/ebbtransfer/ebb/internal/proxy"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == helper.Verb { // the service calls itself, as a job's owner
		os.Exit(helper.Main(os.Args[2:], os.Stdin))
	}
	if len(os.Args) > 1 && os.Args[1] == proxy.HelperVerb { // and without rights, for a script of the network's
		if err := proxy.Help(os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "ebb:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// app is one call of the command line: its streams and the flags that all verbs share.
type app struct {
	in       io.Reader
	out, err io.Writer
	outTerm  terminal
	errTerm  terminal

	socket string
	json   bool
	admin  bool // an administrator's rights are asked for
	quiet  bool
	dryRun bool // of verbs that change jobs: say what would be done, and do nothing

	parsed bool // the arguments were understood; errors from now on are not about usage
}

// terminal is what is known of an output stream; the zero value is a file or a pipe.
type terminal struct {
	is     bool
	colour bool
	fd     int
}

// width returns the number of columns, or 80 where it is not known.
func (t terminal) width() int {
	if w, _, err := term.GetSize(t.fd); t.is && err == nil && w > 0 {
		return w
	}
	return 80
}

func terminalOf(w io.Writer) terminal {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return terminal{}
	}
	return terminal{is: true, fd: int(f.Fd()), colour: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func run(args []string, in io.Reader, out, err io.Writer) (code int) {
	a := &app{in: in, out: out, err: err, outTerm: terminalOf(out), errTerm: terminalOf(err)}
	root := newRootCmd(a)
	root.SetArgs(canonical(args))
	cmd, e := root.ExecuteContextC(context.Background())
	if e != nil && !a.parsed {
		e = usageOf(cmd, e)
	}
	a.printError(e)
	return exitCode(e)
}

func newRootCmd(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "ebb",
		Short: "Downloads and uploads in the background that survive anything",
		Long: `Ebb moves files in the background: a service keeps a queue of jobs, moves their
bytes politely, goes on after a broken connection, a restart or a power cut, and
puts each file in its place only when it is whole.

  ebb get https://example.org/image.iso     fetch a file and wait for it
  ebb get --detach https://example.org/a    leave it to the service
  ebb put image.iso https://example.org/u/  upload a file and wait for it
  ebb list                                  what is in the queue
  ebb top                                   jobs, rates and the network, live

The service is found on --socket, else on $EBB_SOCKET, else it is the user's own,
else the system's. When none runs, ebb starts one for the user; it ends by itself
after ten idle minutes.

Exit codes: 0 done, 1 the transfer failed, 2 wrong usage, 3 no service, 4 no such
job, 5 not allowed, 6 not in this state, 130 interrupted.`,
		Version:           ownVersion(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { a.parsed = true },
		// Without a verb ebb prints its help; with an unknown one it says what is meant.
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			msg := fmt.Sprintf("there is no verb %q", args[0])
			if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
				msg += "; did you mean " + strings.Join(s, " or ") + "?"
			}
			return errors.New(msg)
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("ebb {{.Version}}\n")
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.PersistentFlags().StringVar(&a.socket, "socket", "", "`path` of the service's socket")
	root.PersistentFlags().BoolVar(&a.admin, "admin", false, "act as an administrator of all users' jobs; polkit may ask for a password")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON for programs")
	root.PersistentFlags().BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	root.SuggestionsMinimumDistance = 1 // letters that differ; with 2, "lst" would mean get and set too
	root.SetHelpCommandGroupID("service")

	root.AddGroup(&cobra.Group{ID: "fetch", Title: "Transfer:"}, &cobra.Group{ID: "jobs", Title: "Jobs:"},
		&cobra.Group{ID: "look", Title: "Look:"}, &cobra.Group{ID: "service", Title: "Service:"},
		&cobra.Group{ID: "originals", Title: "Command lines of BITS's own tools:"})
	add := func(group string, verbs ...*cobra.Command) {
		for _, v := range verbs {
			v.GroupID = group
			root.AddCommand(v)
		}
	}
	add("fetch", newGetCmd(a), newPutCmd(a), newWaitCmd(a))
	add("jobs", newCreateCmd(a), newAddCmd(a), newSetCmd(a), newCredentialsCmd(a), newHeadersCmd(a), newCertificateCmd(a), newResumeCmd(a), newSuspendCmd(a), newCompleteCmd(a), newCancelCmd(a), newOwnCmd(a), newFileCmd(a), newReplacePrefixCmd(a))
	add("look", newListCmd(a), newShowCmd(a), newExplainCmd(a), newTopCmd(a), newWatchCmd(a))
	add("service", newServeCmd(a), newDaemonCmd(a), newPolicyCmd(a), newPeersCmd(a), newCacheCmd(a), newVersionCmd(a), newDoctorCmd(a), newCompletionCmd(a), newManCmd(a))
	add("originals", newBitsadminCmd(a))
	for _, c := range bitsTransfer() {
		add("originals", newCmdletCmd(a, c))
	}
	return root
}
