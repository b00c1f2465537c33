package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// bitsadmin is one call of `ebb bitsadmin`, which takes the command lines of the tool of that
// name and answers in its words. What the tool prints to say that it did not succeed it prints on
// the standard output, and so does this; the hint, which it does not have, goes to the standard error.
type bitsadmin struct {
	a   *app
	ctx context.Context
	srv *service
	raw bool // /rawreturn: bare values without a line end
}

// An adminSwitch is one of bitsadmin's commands.
type adminSwitch struct {
	name        string
	args        string // for people
	least, most int    // how many arguments it takes; most -1 is any number
	does        string
	fails       string // what follows "Unable to "
	run         func(b *bitsadmin, args []string) error
}

// adminSwitches are all of them, in the order of the help.
func adminSwitches() []adminSwitch {
	var all []adminSwitch
	for _, part := range [][]adminSwitch{adminJobs, adminValues(), adminSetters, adminOwner, adminCertificates, adminMachine} {
		all = append(all, part...)
	}
	return all
}

const bitsadminBanner = "\nBITSADMIN version 3.0\nBITS administration utility, by ebb %s\n\n"

func newBitsadminCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "bitsadmin [/RAWRETURN] [/WRAP|/NOWRAP] /SWITCH [ARGUMENT...]",
		Short: "Take the command lines of bitsadmin, and answer in its words",
		Long: `Take the command lines of bitsadmin, the tool of BITS, and answer in its words, so that
scripts run after a change of its name. JOB is a job's name, if no other has it, or its
id, with or without braces. Switches are known in any case, and with '-' for '/'.
/RAWRETURN prints the bare value without a line end, for scripts.

The exit code is that of ebb: 0 done, 1 the transfer failed, 4 no such job, and so on.
/WRAP and /NOWRAP are accepted and change nothing. What needs Windows (helper tokens,
Internet Explorer's proxy) says so, and the peer cache of BITS 3 is disabled, as it is in
Windows since version 7. ` + "`ebb bitsadmin /help`" + ` lists the switches.`,
		Example: `  ebb bitsadmin /create nightly
  ebb bitsadmin /addfile nightly https://example.org/image.iso /srv/images/image.iso
  ebb bitsadmin /resume nightly
  ebb bitsadmin /rawreturn /getstate nightly
  ebb bitsadmin /complete nightly
  ebb bitsadmin /transfer fetch /priority foreground https://example.org/a /tmp/a`,
		DisableFlagParsing: true, // an argument may begin with '-'
		ValidArgsFunction:  a.completeAdmin,
		RunE: func(cmd *cobra.Command, args []string) error {
			args, help := a.ownFlags(args)
			if help {
				return cmd.Help()
			}
			return a.bitsadmin(cmd.Context(), args)
		},
	}
}

// completeAdmin completes the name of a switch, and then a job and files.
func (a *app) completeAdmin(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	for len(args) > 0 && slices.Contains([]string{"rawreturn", "wrap", "nowrap"}, adminName(args[0])) {
		args = args[1:]
	}
	switch len(args) {
	case 0:
	case 1:
		return a.completeJobs(cmd, nil, begun)
	default:
		return nil, cobra.ShellCompDirectiveDefault
	}
	var found []string
	for _, s := range adminSwitches() {
		if name := "/" + s.name; strings.HasPrefix(name, strings.ToLower(begun)) {
			found = append(found, cobra.CompletionWithDesc(name, s.does))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// ownFlags takes ebb's own flags from the front of arguments whose form is another's. It reports
// whether help is asked for.
func (a *app) ownFlags(args []string) (rest []string, help bool) {
	for len(args) > 0 {
		name, value, has := strings.Cut(args[0], "=")
		switch {
		case name == "--socket" && has:
			a.socket = value
		case name == "--socket" && len(args) > 1:
			a.socket = args[1]
			args = args[1:]
		case args[0] == "--json":
			a.json = true
		case args[0] == "--quiet", args[0] == "-q":
			a.quiet = true
		case args[0] == "--help", args[0] == "-h":
			return nil, true
		default:
			return args, false
		}
		args = args[1:]
	}
	return args, false
}

// adminName returns the name of a switch, in lower case, or "" if the argument is none.
func adminName(arg string) string {
	if len(arg) < 2 || arg[0] != '/' && arg[0] != '-' {
		return ""
	}
	if name := strings.ToLower(arg[1:]); name != "setaclflags" { // some of its documents have it so
		return name
	}
	return "setaclflag"
}

func (a *app) bitsadmin(ctx context.Context, args []string) error {
	b := &bitsadmin{a: a, ctx: ctx}
	for ; len(args) > 0; args = args[1:] {
		if name := adminName(args[0]); name == "rawreturn" {
			b.raw = true
		} else if name != "wrap" && name != "nowrap" {
			break
		}
	}
	if !b.raw {
		a.printf(bitsadminBanner, ownVersion())
	}
	if len(args) == 0 {
		return b.help(nil)
	}
	name := adminName(args[0])
	switch name {
	case "help", "?":
		return b.help(args[1:])
	case "examples":
		a.printf("%s", adminExamples)
		return nil
	}
	for _, s := range adminSwitches() {
		if s.name != name {
			continue
		}
		args = args[1:]
		if len(args) < s.least || s.most >= 0 && len(args) > s.most {
			a.printf("Invalid number of arguments.\n")
			return hinted(usagef("/%s takes the arguments %s", s.name, orNone(s.args)), "see `ebb bitsadmin /help`")
		}
		// Where the original needs an elevated prompt, polkit may ask.
		lists := name == "list" || name == "monitor" || name == "reset"
		a.admin = a.admin || name == "takeownership" || lists && slices.ContainsFunc(args, func(arg string) bool { return adminName(arg) == "allusers" })
		b.srv = a.connect()
		defer b.srv.Close()
		return b.tell(s, s.run(b, args))
	}
	a.printf("Invalid command.\n")
	return hinted(usagef("bitsadmin knows no switch %q", args[0]), "see `ebb bitsadmin /help`")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// noJobError is that no job, or more than one, has a name.
type noJobError struct {
	ref string
	err error
}

func (e *noJobError) Error() string { return e.err.Error() }
func (e *noJobError) Unwrap() error { return e.err }

// tell prints what went wrong as bitsadmin does.
func (b *bitsadmin) tell(s adminSwitch, err error) error {
	var answer *bits.Error
	var missing *noJobError
	var ambiguous *client.AmbiguousError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ambiguous) && errors.As(err, &missing):
		b.a.printf("Found %d jobs named %q. Use the job identifier instead of the job name.\n", len(ambiguous.Candidates), safe(missing.ref))
	case errors.As(err, &missing) && errors.Is(err, &bits.Error{Code: bits.NotFound}):
		b.a.printf("Unable to find job named %q.\n", safe(missing.ref))
	case errors.As(err, &answer):
		b.a.printf("Unable to %s - %s\n%s\n", s.fails, strings.ToLower(answer.Code.Hex()), safe(answer.Sentence()))
		hint := answer.Code.Hint()
		var exit *exitError
		switch {
		case errors.As(err, &exit) && exit.hint != "":
			hint = exit.hint
		case answer.Code == bits.InvalidArg || answer.Code == bits.NotImplemented:
			hint = fmt.Sprintf("`ebb bitsadmin /help /%s` tells what it takes", s.name)
		}
		b.a.hint(hint)
		return told(codeExit(answer.Code))
	default:
		return err
	}
	return told(exitCode(err))
}

// say prints a line for people, and nothing with /rawreturn.
func (b *bitsadmin) say(format string, args ...any) {
	if !b.raw {
		b.a.printf(format, args...)
	}
}

// value prints a value: bare, or with what it is.
func (b *bitsadmin) value(label, v string) {
	if b.raw {
		b.a.printf("%s", v)
		return
	}
	b.a.printf("%s: %s\n", label, v)
}

// find returns the job that an argument means: its id, or its name if no other job has it. Jobs
// that have ended are gone, as they are for bitsadmin.
func (b *bitsadmin) find(ref string) (*client.Job, *bits.Job, error) {
	fail := func(err error) (*client.Job, *bits.Job, error) { return nil, nil, &noJobError{ref, err} }
	job, err := b.srv.Find(b.ctx, ref)
	if err != nil {
		return fail(goneIfEnded(err, ref))
	}
	info, err := job.Info(b.ctx)
	if err != nil {
		return fail(err)
	}
	_, notID := bits.ParseID(ref)
	if info.State.Final() || notID != nil && info.Name != ref { // the beginning of an id is none
		return fail(bits.Errorf(bits.NotFound, "there is no job %q", ref))
	}
	return job, info, nil
}

// goneIfEnded makes of the error for a name that several jobs have, all of which have ended, the one for a
// name that none has: BITS forgets jobs at their end.
func goneIfEnded(err error, ref string) error {
	var ambiguous *client.AmbiguousError
	if errors.As(err, &ambiguous) && ambiguous.Candidates[0].State.Final() { // so are all of them
		return bits.Errorf(bits.NotFound, "there is no job %q", ref)
	}
	return err
}

// withJob is a switch whose first argument is a job.
func withJob(f func(b *bitsadmin, job *client.Job, info *bits.Job, args []string) error) func(*bitsadmin, []string) error {
	return func(b *bitsadmin, args []string) error {
		job, info, err := b.find(args[0])
		if err != nil {
			return err
		}
		return f(b, job, info, args[1:])
	}
}

// braced is an id as BITS writes it.
func braced(id bits.ID) string { return "{" + strings.ToUpper(id.String()) + "}" }

// help lists the switches, or those that are named.
func (b *bitsadmin) help(names []string) error {
	b.a.printf("Usage: ebb bitsadmin [/RAWRETURN] [/WRAP | /NOWRAP] command\n\n/HELP [/SWITCH...], /?\n    prints this text\n/EXAMPLES\n    prints examples\n")
	for _, s := range adminSwitches() {
		if len(names) > 0 && !slices.ContainsFunc(names, func(n string) bool { return adminName(n) == s.name }) {
			continue
		}
		b.a.printf("/%s %s\n    %s\n", strings.ToUpper(s.name), s.args, s.does)
	}
	return nil
}
