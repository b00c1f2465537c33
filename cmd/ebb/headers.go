package main

import (
	"bufio"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newHeadersCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "headers",
		Short: "Show, set or clear a job's own request headers",
		Long: `Show, set or clear the headers that a job sends with each of its requests. They are
stored encrypted and go to the job's own servers only. Only the job's owner reads
them, and nobody once they are write-only.`,
		Example: `  ebb headers set nightly --from headers.txt
  ebb headers show nightly
  ebb headers clear nightly`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newHeadersSetCmd(a), newHeadersShowCmd(a), newHeadersClearCmd(a))
	return cmd
}

func newHeadersSetCmd(a *app) *cobra.Command {
	var from string
	var writeOnly bool
	cmd := &cobra.Command{
		Use:   "set JOB ['Name: value'...]",
		Short: "Set a job's headers, in the place of those that it has",
		Long: `Set a job's headers, in the place of those that it has: those of the arguments, and
the lines of a file. What is secret should come from a file: the arguments can be
read by everybody on the machine.`,
		Example: `  ebb headers set nightly 'X-Site: 7'
  ebb headers set nightly --from headers.txt --write-only`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			lines := args[1:]
			if from != "" {
				more, err := a.linesFrom(from)
				if err != nil {
					return err
				}
				lines = append(lines, more...)
			}
			s := bits.Settings{}
			if len(lines) > 0 {
				s.Headers = &lines
			} else if !writeOnly {
				return hinted(usagef("there are no headers to set"), "`ebb headers clear` removes them")
			}
			if writeOnly {
				s.HeadersWriteOnly = &writeOnly
			}
			if e := s.Check(false); e != nil {
				return usagef("%s", e.Sentence())
			}
			return a.onJob(cmd, args[0], func(job *client.Job) error {
				if err := job.Set(cmd.Context(), s); err != nil {
					return err
				}
				if !a.quiet && !a.json {
					a.printf("%s has %d headers\n", safe(args[0]), len(lines))
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "`file` with a header in each line; - is the input")
	cmd.Flags().BoolVar(&writeOnly, "write-only", false, "nobody reads them back, for good")
	return a.mayDryRun(cmd)
}

// readHeaders reads the file of --header-from. The list of files may not come from the standard input too.
func (a *app) readHeaders(o *jobOptions, list string) error {
	if o.headerFrom == "" {
		return nil
	}
	if o.headerFrom == "-" && list == "-" {
		return usagef("the list and the headers cannot both come from the standard input")
	}
	lines, err := a.linesFrom(o.headerFrom)
	o.headers = append(o.headers, lines...)
	return err
}

// linesFrom reads the lines of a file, or of the input, that are not empty.
func (a *app) linesFrom(name string) ([]string, error) {
	in := a.in
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	var lines []string
	s := bufio.NewScanner(io.LimitReader(in, maxSecret))
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" {
			lines = append(lines, line)
		}
	}
	return lines, s.Err()
}

func newHeadersShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "show JOB",
		Short:             "Show a job's headers to its owner",
		Example:           `  ebb headers show nightly`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
		RunE: shows(a, (*client.Job).Headers, func(lines []string) {
			for _, l := range lines {
				a.printf("%s\n", safe(l))
			}
		}),
	}
}

func newHeadersClearCmd(a *app) *cobra.Command {
	return a.mayDryRun(&cobra.Command{
		Use:               "clear JOB",
		Short:             "Remove all of a job's headers",
		Example:           `  ebb headers clear nightly`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeJobs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onJob(cmd, args[0], func(job *client.Job) error {
				return job.Set(cmd.Context(), bits.Settings{Headers: &[]string{}})
			})
		},
	})
}
