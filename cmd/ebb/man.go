package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func newManCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write ebb's man pages into a directory",
		Long: `Write the man pages of ebb and of each verb, in section 1, into a directory, which is
created if need be. They say what --help says.`,
		Example: `  ebb man /usr/local/share/man/man1
  ebb man /tmp/man && man /tmp/man/ebb-get.1`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return usagef("the directory cannot be made: %w", err)
			}
			root := cmd.Root()
			forMan(root)
			root.DisableAutoGenTag = true // the same program writes the same pages
			epoch := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Source: "ebb " + ownVersion(), Manual: "Ebb", Date: &epoch}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return &exitError{code: exitFailed, err: err}
			}
			a.note("the man pages are in %s", args[0])
			return nil
		},
	}
}

// forMan makes the text of a command and of its verbs such that it comes through Markdown, of which
// cobra makes man pages: what is indented stays as it is, and no character means anything.
func forMan(cmd *cobra.Command) {
	cmd.Long = markdown(cmd.Long)
	for _, verb := range cmd.Commands() {
		forMan(verb)
	}
}

// plainMarkdown takes the meaning from what Markdown would take for marks.
var plainMarkdown = strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "#", `\#`)

func markdown(text string) string {
	var b strings.Builder
	verbatim := false
	for line := range strings.Lines(text) {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !verbatim:
			b.WriteString("\n    " + line)
		case indented:
			b.WriteString("    " + line)
		case strings.TrimSpace(line) == "":
			b.WriteString(line)
		default:
			b.WriteString(plainMarkdown.Replace(line))
		}
		verbatim = indented
	}
	return b.String()
}
