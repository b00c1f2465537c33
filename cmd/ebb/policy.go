package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/policy"
)

func newPolicyCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Show, check and change the configuration: limits, schedules, quotas",
		Long: `Show, check and change the configuration of the service: how much bandwidth jobs
may use and when, which networks, on battery or not, and how many there may be.

It is one TOML file: the one that the service was started with (--config), else
~/.config/ebb/policy.toml, else /etc/ebb/policy.toml, the first that is there. The
service reads it again by itself when it changes. docs/policy.md tells all keys;
` + "`ebb policy show --defaults`" + ` prints them.`,
		Example: `  ebb policy set bandwidth.background='10 Mbit/s'
  ebb policy explain --at 'Sun 03:00'
  ebb policy edit`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("there is no verb %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyShowCmd(a), newPolicyExplainCmd(a), newPolicySetCmd(a), newPolicyEditCmd(a), newPolicyCheckCmd(a))
	return cmd
}

// running calls a function with the service and its configuration, if one runs: none is started
// to ask it. It reports whether one does.
func (a *app) running(ctx context.Context, do func(*client.Manager, *bits.Policy) error) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	m := client.New(a.socket)
	defer m.Close()
	p, err := m.Policy(ctx)
	if errors.Is(err, client.ErrNoService) {
		return false, nil
	}
	if err != nil {
		return true, err
	}
	return true, do(m, p)
}

// policyFile is a configuration file that is about to be changed.
type policyFile struct {
	name string
	text []byte // nil if it is not there
}

// openPolicy reads the file that is named or, for "", the one of the service that runs or would
// run.
func (a *app) openPolicy(ctx context.Context, name string) (policyFile, error) {
	if name == "" {
		runs, err := a.running(ctx, func(_ *client.Manager, p *bits.Policy) error {
			name = p.File
			return nil
		})
		if err != nil {
			return policyFile{}, err
		}
		if !runs {
			name, _ = policy.Find()
		}
	}
	name, err := filepath.Abs(name)
	if err != nil {
		return policyFile{}, err
	}
	text, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return policyFile{}, notAllowed(err)
	}
	return policyFile{name, text}, nil
}

// changedPolicy is what set and edit did, for programs.
type changedPolicy struct {
	File     string               `json:"file"`
	Changed  bool                 `json:"changed"`
	InEffect bool                 `json:"in_effect"` // a service runs, and works by it now
	Notices  []bits.PolicyProblem `json:"notices"`
}

// replace puts a checked text in the place of the file, has the service read it, and tells so.
func (a *app) replace(ctx context.Context, f policyFile, text []byte) error {
	p, err := policy.Parse(f.name, text)
	if err != nil {
		return a.problems(err)
	}
	did := changedPolicy{File: f.name, Changed: string(text) != string(f.text), Notices: append([]bits.PolicyProblem{}, p.Notices...)}
	if did.Changed {
		replace := policy.Replace
		if a.dryRun {
			replace = policy.MayReplace
		}
		if err := replace(f.name, f.text, text); err != nil {
			return notAllowed(err)
		}
	}
	if a.dryRun {
		return a.wouldReplace(&did)
	}
	if did.InEffect, err = a.reload(ctx, f.name); err != nil {
		return fmt.Errorf("%s is changed, but the service did not read it: %w", f.name, err)
	}
	if a.json {
		return a.printJSON(did)
	}
	for _, n := range p.Notices {
		a.note("%s", n)
	}
	if a.quiet {
		return nil
	}
	what, when := "changed", "it is in effect"
	if !did.Changed {
		what = "there is nothing to change in"
	}
	if !did.InEffect {
		when = "no service runs that reads it"
	}
	a.printf("%s %s; %s\n", what, a.place(f.name), when)
	if did.Changed && f.text == nil && f.name == policy.SystemFile {
		a.note("the file is new, and holds for all services of this machine whose users have none of their own")
	}
	return nil
}

// wouldReplace tells what replace would have done.
func (a *app) wouldReplace(did *changedPolicy) error {
	if a.json {
		return a.printJSON(did)
	}
	for _, n := range did.Notices {
		a.note("%s", n)
	}
	what := "would change"
	if !did.Changed {
		what = "there is nothing to change in"
	}
	a.printf("%s %s\n", what, a.place(did.File))
	return nil
}

// reload has the service read its file, if one runs and this is the file.
func (a *app) reload(ctx context.Context, name string) (done bool, err error) {
	_, err = a.running(ctx, func(m *client.Manager, p *bits.Policy) error {
		if p.File != name && p.Exists {
			return nil
		}
		p, err := m.ReloadPolicy(ctx)
		if err != nil {
			return err
		}
		if len(p.Errors) > 0 {
			return policy.Problems(p.Errors)
		}
		done = p.File == name
		return nil
	})
	return done, err
}

// problems prints all that is wrong with a file, a line each, as compilers do.
func (a *app) problems(err error) error {
	var list policy.Problems
	if !errors.As(err, &list) {
		return err
	}
	for _, p := range list {
		_, _ = fmt.Fprintln(a.err, safe(p.String()))
	}
	return told(exitFailed)
}

// notAllowed gives an error about a file that one may not read or write the exit code for it.
func notAllowed(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return &exitError{code: exitNotAllowed, err: err, hint: "become administrator, or keep a configuration of your own in ~/.config/ebb/policy.toml, which goes before the machine's"}
}

// completeKey completes the keys of the configuration.
func completeKey(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var found []string
	for _, k := range policy.KeyNames() {
		if strings.HasPrefix(k, begun) {
			found = append(found, k+"=")
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
