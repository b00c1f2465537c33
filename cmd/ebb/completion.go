package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func newCompletionCmd(a *app) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that lets a shell complete ebb's arguments",
		Long: `Print a script that lets a shell complete verbs, flags, properties and the names of the
jobs in the queue.`,
		Example: `  source <(ebb completion bash)
  ebb completion bash > /etc/bash_completion.d/ebb
  ebb completion zsh  > "${fpath[1]}/_ebb"
  ebb completion fish > ~/.config/fish/completions/ebb.fish
  ebb completion powershell | Out-String | Invoke-Expression`,
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs:             shells,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			}
			return root.GenPowerShellCompletionWithDesc(a.out)
		},
	}
}

// completeJob completes the first argument as a job, and further ones as files.
func (a *app) completeJob(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeJobs(cmd, args, begun)
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// completeJobs asks the service, if one runs, for the names and ids of jobs. A shell that
// waits is worse than one that does not complete.
func (a *app) completeJobs(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	const patience, most = 500 * time.Millisecond, 1000
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := client.New(a.socket)
	defer m.Close()
	var found []string
	for j, err := range m.List(ctx, client.ListOptions{Limit: most}) {
		if err != nil {
			break
		}
		about := strings.ReplaceAll(safe(j.Name), "\t", " ") + ", " + j.State.String()
		if strings.HasPrefix(j.Name, begun) && strings.IndexFunc(j.Name, garbles) < 0 {
			found = append(found, cobra.CompletionWithDesc(j.Name, shortID(j.ID)+", "+j.State.String()))
		}
		if id := j.ID.String(); strings.HasPrefix(id, begun) && begun != "" {
			found = append(found, cobra.CompletionWithDesc(id, about))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeJobFile completes a job and then the number of one of its files.
func (a *app) completeJobFile(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return a.completeJobs(cmd, args, begun)
	case 1:
	default:
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	const patience, most = 500 * time.Millisecond, 1000
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m := client.New(a.socket)
	defer m.Close()
	var found []string
	if job, err := m.Find(ctx, args[0]); err == nil {
		if info, err := job.Info(ctx); err == nil {
			for _, f := range info.Files[:min(len(info.Files), most)] {
				if n := strconv.Itoa(f.Index); strings.HasPrefix(n, begun) {
					found = append(found, cobra.CompletionWithDesc(n, strings.ReplaceAll(safe(f.Local), "\t", " ")))
				}
			}
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeSetting completes a job and then properties.
func (a *app) completeSetting(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return a.completeJobs(cmd, args, begun)
	}
	return completeProperty(begun)
}

// completeProperty completes the name of a property.
func completeProperty(begun string) ([]string, cobra.ShellCompDirective) {
	var found []string
	for _, p := range bits.PropertyTable {
		if strings.HasPrefix(p.Name, begun) {
			found = append(found, cobra.CompletionWithDesc(p.Name+"=", p.Doc))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
