package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// shownRanges is how many parts of a file are shown to people; --json has all.
const shownRanges = 50

func newFileShowCmd(a *app) *cobra.Command {
	return a.oneFileCmd(&cobra.Command{
		Use:   "show JOB FILE",
		Short: "Show all that is known of a file",
		Long: `Show all that is known of a file: where its bytes are while it is fetched, which parts of
it are here, what the server's last answer said in its header, and whether its content
was found right. The offsets of parts that are here or wanted count bytes of the file
here, those of the file's own parts (` + "`ebb add --range`" + `) bytes of the one on the server.`,
		Example: "  ebb file show nightly image.iso\n  ebb file show --json nightly 0 | jq .filled",
		Args:    cobra.ExactArgs(2),
	}, func(ctx context.Context, job *client.Job, f *bits.File, _ []string) error {
		d, err := job.File(ctx, f.Index)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(d)
		}
		w := bufio.NewWriter(a.out)
		a.showFileDetail(w, d)
		return w.Flush()
	})
}

// showFileDetail prints a file for people.
func (a *app) showFileDetail(w io.Writer, d *bits.FileDetail) {
	line := func(name, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%s %s\n", a.outTerm.paint(bold, fmt.Sprintf("%-10s", name)), fmt.Sprintf(format, args...))
	}
	line("index", "%d", d.Index)
	line("remote", "%s", safe(bits.RedactPassword(d.Remote)))
	for _, m := range d.Mirrors {
		line("mirror", "%s", safe(bits.RedactPassword(m)))
	}
	if d.Source != "" {
		line("source", "%s", safe(bits.RedactPassword(d.Source)))
	}
	line("local", "%s", safe(d.Local))
	if d.Temporary != "" {
		line("temporary", "%s", safe(d.Temporary))
	}
	if len(d.Ranges) > 0 {
		line("parts", "%s", rangesText(d.Ranges, shownRanges))
	}
	line("size", "%s", amount(d.BytesTransferred, d.BytesTotal))
	line("here", "%s", rangesText(d.Filled, shownRanges))
	if text := fromText(d.File); text != "" {
		line("came", "%s", text)
	}
	if len(d.Wanted) > 0 {
		line("wanted", "%s", rangesText(d.Wanted, shownRanges))
	}
	if d.Position > 0 {
		line("position", "%d", d.Position)
	}
	if d.Checksum != "" {
		line("checksum", "%s", safe(d.Checksum))
	}
	if d.Protocol != "" {
		line("protocol", "%s", safe(string(d.Protocol)))
	}
	if d.Validated {
		line("content", "found right")
	}
	switch {
	case d.Completed:
		line("state", "in its place")
	case d.Skipped:
		line("state", "skipped")
	}
	if d.Note != "" {
		line("note", "%s", safe(d.Note))
	}
	if d.ResponseHeaders != "" {
		_, _ = fmt.Fprintln(w, a.outTerm.paint(bold, "answer"))
		for field := range strings.SplitSeq(strings.TrimRight(d.ResponseHeaders, "\r\n"), "\n") {
			_, _ = fmt.Fprintf(w, "  %s\n", safe(strings.TrimRight(field, "\r")))
		}
	}
}

// rangesText lists parts as ParseRanges reads them, and how many more there are than most.
func rangesText(ranges []bits.Range, most int) string {
	if len(ranges) == 0 {
		return "nothing"
	}
	var b strings.Builder
	for i, r := range ranges[:min(len(ranges), most)] {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.String())
	}
	if left := len(ranges) - most; left > 0 {
		fmt.Fprintf(&b, " and %d more", left)
	}
	return b.String()
}

func newFileRangesCmd(a *app) *cobra.Command {
	return a.oneFileCmd(a.mayDryRun(&cobra.Command{
		Use:   "ranges JOB FILE [OFFSET:LENGTH...]",
		Short: "Fetch parts of a file before all others, or list those that are here",
		Long: `Without parts, print those that are here, one to a line. With parts, have them fetched
before everything else; they may overlap what is here and each other. Offsets and lengths
are in bytes of the file here; the length may be eof. Several parts may be in one word,
separated by commas.

A job with the property on_demand fetches nothing else: it is SUSPENDED when all that was
asked for is here, and goes on with the next request by itself. Ordinary downloads fetch
the rest afterwards; of one whose server cannot send parts the file is fetched in order.
` + "`ebb watch`" + ` tells what came.`,
		Example: `  ebb create game && ebb set game on_demand=true
  ebb add game https://example.org/game.pak game.pak && ebb resume game
  ebb file ranges game game.pak 0:65536 1073741824:4096
  ebb file ranges game game.pak`,
		Args: cobra.MinimumNArgs(2),
	}), func(ctx context.Context, job *client.Job, f *bits.File, args []string) error {
		if len(args) == 2 {
			return a.printFilled(ctx, job, f)
		}
		ranges, err := parseRanges(args[2:])
		if err != nil {
			return usagef("%w", err)
		}
		if err := job.RequestFileRanges(ctx, f.Index, ranges...); err != nil {
			return err
		}
		return a.printFileChange(ctx, job, f)
	})
}

// printFilled prints which parts of a file are here, for programs too.
func (a *app) printFilled(ctx context.Context, job *client.Job, f *bits.File) error {
	d, err := job.File(ctx, f.Index)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(d.Filled)
	}
	w := bufio.NewWriter(a.out)
	for _, r := range d.Filled {
		_, _ = fmt.Fprintln(w, r)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(d.Filled) == 0 && !a.quiet {
		a.note("nothing of the file is here")
	}
	return nil
}

// printFileChange tells that something was asked of a file, or would be.
func (a *app) printFileChange(ctx context.Context, job *client.Job, f *bits.File) error {
	if a.dryRun {
		return a.wouldChangeFile(ctx, job, f)
	}
	if a.json {
		d, err := job.File(ctx, f.Index)
		if err != nil {
			return err
		}
		return a.printJSON(d)
	}
	if !a.quiet {
		a.printf("changed file %d, %s\n", f.Index, a.place(f.Local))
	}
	return nil
}

func newFilePositionCmd(a *app) *cobra.Command {
	return a.oneFileCmd(a.mayDryRun(&cobra.Command{
		Use:   "position JOB FILE OFFSET",
		Short: "Fetch what is missing at and after an offset first",
		Long: `Fetch what is missing at and after an offset of a file first, and then the rest. OFFSET is in
bytes of the file here. If the server cannot send parts, the file is fetched in order.`,
		Example: "  ebb file position film 0 734003200",
		Args:    cobra.ExactArgs(3),
	}), func(ctx context.Context, job *client.Job, f *bits.File, args []string) error {
		offset, err := strconv.ParseUint(args[2], 10, 63)
		if err != nil {
			return usagef("%q is not an offset; want a number of bytes", args[2])
		}
		if err := job.UpdateDownloadPosition(ctx, f.Index, int64(offset)); err != nil {
			return err
		}
		return a.printFileChange(ctx, job, f)
	})
}

func newFileValidateCmd(a *app) *cobra.Command {
	cmd := a.oneFileCmd(a.mayDryRun(&cobra.Command{
		Use:   "validate JOB FILE right|wrong",
		Short: "Say whether the content of a file is right",
		Long: `Say whether the content of a file that is transferred is right; until the job is completed
it is at the path that ` + "`ebb file show`" + ` tells as temporary. If it is wrong the job becomes
ERROR, and ` + "`ebb resume`" + ` fetches the file again; what came from peers is fetched again at once,
from its server.`,
		Example: "  ebb file validate nightly 0 right\n  ebb file validate nightly 1 wrong && ebb resume nightly",
		Args:    cobra.ExactArgs(3),
	}), func(ctx context.Context, job *client.Job, f *bits.File, args []string) error {
		if args[2] != "right" && args[2] != "wrong" {
			return usagef("%q: want right or wrong", args[2])
		}
		if err := job.SetValidationState(ctx, f.Index, args[2] == "right"); err != nil {
			return err
		}
		return a.printFileChange(ctx, job, f)
	})
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) == 2 {
			return []string{"right", "wrong"}, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeJobFile(cmd, args, begun)
	}
	return cmd
}
