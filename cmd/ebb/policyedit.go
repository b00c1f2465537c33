package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/ebbtransfer/ebb/internal/policy"
)

func newPolicyEditCmd(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "edit",
		Short: "Edit the configuration file",
		Long: `Edit a copy of the configuration file with $VISUAL or $EDITOR. The copy takes the
file's place when it has no error; with one, the editor opens again if you like. A file
that is not there yet begins with all keys and their defaults in comments. The service
works by the new file at once.`,
		Example: `  ebb policy edit
  EDITOR=nano sudo -E ebb policy edit`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f, err := a.openPolicy(cmd.Context(), file)
			if err != nil {
				return err
			}
			return a.editPolicy(cmd.Context(), f)
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "another `file` than the service's")
	return cmd
}

func (a *app) editPolicy(ctx context.Context, f policyFile) error {
	before := f.text
	if before == nil {
		before = []byte(policy.Template())
	}
	draft, err := os.CreateTemp("", "ebb-policy-*.toml")
	if err != nil {
		return err
	}
	_, err = draft.Write(before)
	if e := draft.Close(); err == nil {
		err = e
	}
	for err == nil {
		if err = a.runEditor(ctx, draft.Name()); err != nil {
			break
		}
		var text []byte
		if text, err = os.ReadFile(draft.Name()); err != nil {
			break
		}
		if bytes.Equal(text, before) {
			a.note("nothing was changed")
			return os.Remove(draft.Name())
		}
		if _, wrong := policy.Parse(draft.Name(), text); wrong != nil {
			err = a.problems(wrong)
			if a.again() {
				err = nil
			}
			continue
		}
		if err = a.replace(ctx, f, text); err == nil {
			return os.Remove(draft.Name())
		}
	}
	a.note("%s is as it was; the draft is kept as %s", f.name, draft.Name())
	return err
}

// again asks whether to open the editor once more, if there is someone to ask.
func (a *app) again() bool {
	in, ok := a.in.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || !a.errTerm.is {
		return false
	}
	_, _ = fmt.Fprint(a.err, "Edit again? [Y/n] ")
	answer, err := bufio.NewReader(a.in).ReadString('\n')
	return err == nil && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "n")
}

// runEditor runs the user's editor on a file until it ends.
func (a *app) runEditor(ctx context.Context, name string) error {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" && runtime.GOOS == "windows" {
		editor = "notepad"
	}
	if editor == "" {
		for _, e := range []string{"sensible-editor", "editor", "nano", "vi"} {
			if _, err := exec.LookPath(e); err == nil {
				editor = e
				break
			}
		}
	}
	if editor == "" {
		return hinted(usagef("there is no editor"), "set EDITOR")
	}
	// As git does it: the variable may hold arguments, and quotes.
	cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$@"`, editor, name)
	if runtime.GOOS == "windows" {
		words := append(strings.Fields(editor), name)
		cmd = exec.CommandContext(ctx, words[0], words[1:]...)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out, a.err
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the editor %s: %w", editor, err)
	}
	return nil
}
