//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
)

// tool returns the path of a program that a test needs.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	return path
}

// TestManPages: each verb has a page with all that a page needs, which groff takes without a word.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if code := run([]string{"-q", "man", dir}, strings.NewReader(""), os.Stdout, os.Stderr); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	groff := tool(t, "groff")
	verbs := 0
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				walk(sub)
			}
		}
		verbs++
		name := filepath.Join(dir, strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1")
		page, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			return
		}
		for _, part := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"} {
			if !bytes.Contains(page, []byte(".SH "+part)) {
				t.Errorf("%s has no %s", name, part)
			}
		}
		show := exec.Command(groff, "-man", "-Tutf8", "-P-cbou", name)
		var complaints bytes.Buffer
		show.Stderr = &complaints
		text, err := show.Output()
		if err != nil || complaints.Len() > 0 {
			t.Errorf("%s: %v\n%s", name, err, &complaints)
		}
		if cmd.Name() == "set" && cmd.Parent().Parent() == nil {
			for _, p := range bits.PropertyTable {
				if !bytes.Contains(text, []byte(p.Name)) {
					t.Errorf("%s does not name %s", name, p.Name)
				}
			}
		}
	}
	walk(newRootCmd(&app{}))
	if verbs < 40 {
		t.Errorf("there are %d pages", verbs)
	}
}

func TestMarkdown(t *testing.T) {
	got := markdown("Take *.example.org and a_b.\nJobs:\n  one_job *\n  two\n\nEnd <here>.\n")
	want := "Take \\*.example.org and a\\_b.\nJobs:\n\n      one_job *\n      two\n\nEnd \\<here>.\n"
	if got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestCompletionScripts: each shell that is there understands its script.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		t.Run(shell, func(t *testing.T) {
			var out bytes.Buffer
			if code := run([]string{"completion", shell}, strings.NewReader(""), &out, os.Stderr); code != 0 || !strings.Contains(out.String(), "ebb") {
				t.Fatalf("exit code %d, %d bytes", code, out.Len())
			}
			if shell == "powershell" {
				return // there is none to ask
			}
			path := tool(t, shell)
			script := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(script, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(path, "-n", script).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestCompletionOfTheOriginals: switches, parameters and their words.
func TestCompletionOfTheOriginals(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"bitsadmin", "/getst"}, "/getstate"},
		{[]string{"bitsadmin", "/rawreturn", "/setpri"}, "/setpriority"},
		{[]string{"Start-BitsTransfer", "-Asy"}, "-Asynchronous"},
		{[]string{"Start-BitsTransfer", "-Priority", "fo"}, "Foreground"},
		{[]string{"Set-BitsTransfer", "x", "-proxyu"}, "-ProxyUsage"},
	} {
		var out bytes.Buffer
		run(append([]string{"__complete"}, test.args...), strings.NewReader(""), &out, &bytes.Buffer{})
		found := false
		for line := range strings.Lines(out.String()) {
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			found = found || word == test.want
		}
		if !found {
			t.Errorf("%q completes to\n%s", test.args, out.String())
		}
	}
}
