package main

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/internal/serve"
	"github.com/ebbtransfer/ebb/internal/serve/config"
)

func newServeGroupCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "group",
		Short: "Make and delete groups of files while a server runs",
		Long: `Make and delete groups of files while a server runs. A group is served at /NAME/: a
directory, or files that are listed one by one (see ebb serve file). It is there
again after a restart.`,
		Example: `  ebb serve group create isos --dir /srv/isos --bandwidth '50 MB/s'
  ebb serve group create handover --connections 3
  ebb serve group delete handover`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGroupCreateCmd(a), newGroupListCmd(a), newGroupDeleteCmd(a))
	return cmd
}

// noSuchVerb refuses arguments of a command that has verbs below it.
func noSuchVerb(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("there is no verb %q", args[0])
	}
	return nil
}

func newGroupCreateCmd(a *app) *cobra.Command {
	var g serve.Group
	var bandwidth string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Make a group, served at /NAME/",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			g.Name = args[0]
			if bandwidth != "" {
				var err error
				if g.Bandwidth, err = config.ParseRate(bandwidth); err != nil {
					return usagef("--bandwidth: %w", err)
				}
			}
			if g.Dir != "" {
				var err error
				if g.Dir, err = filepath.Abs(g.Dir); err != nil {
					return err
				}
			}
			c, err := a.server()
			if err != nil {
				return err
			}
			made, err := c.CreateGroup(cmd.Context(), g)
			if err != nil {
				return serverError(err)
			}
			return a.printMade(made)
		},
	}
	cmd.Flags().StringVar(&g.Dir, "dir", "", "`directory` to serve; without it files are added one by one")
	cmd.Flags().BoolVar(&g.Listing, "listing", false, "list the names")
	cmd.Flags().IntVar(&g.Connections, "connections", 0, "requests at once; 0 is no limit")
	cmd.Flags().StringVar(&bandwidth, "bandwidth", "", "`rate` in each direction, such as '10 MB/s'")
	cmd.Flags().StringSliceVar(&g.Read, "read", nil, "`users` who may read: names, anyone, authenticated")
	return cmd
}

// printMade tells where something is served now.
func (a *app) printMade(made ...serve.Made) error {
	if a.json {
		return a.printJSON(made)
	}
	for _, m := range made {
		for _, u := range m.URLs {
			a.printf("%s\n", safe(u))
		}
		if m.Replaced != "" && !a.quiet {
			_, _ = fmt.Fprintf(a.err, "it replaces %s there\n", safe(m.Replaced))
		}
	}
	return nil
}

func newGroupDeleteCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a group; its files stay where they are",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			return serverError(c.DeleteGroup(cmd.Context(), args[0]))
		},
	}
}

func newGroupListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the groups in service",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			list, err := c.Groups(cmd.Context())
			if err != nil {
				return serverError(err)
			}
			if a.json {
				return a.printJSON(list)
			}
			for _, g := range list {
				a.printf("%s\n", safe(groupText(g)))
			}
			return nil
		},
	}
}

// groupText describes a group in one line.
func groupText(g serve.Described) string {
	what := []string{g.Dir + g.Bucket}
	if what[0] == "" {
		what[0] = fmt.Sprintf("%d files", len(g.Files))
	}
	if g.Uploads {
		what = append(what, "takes uploads")
	}
	if g.Listing {
		what = append(what, "listed")
	}
	if g.Connections > 0 {
		what = append(what, fmt.Sprintf("%d connections", g.Connections))
	}
	if g.Bandwidth > 0 {
		what = append(what, fmt.Sprintf("%d B/s", g.Bandwidth))
	}
	what = append(what, "for "+strings.Join(g.Read, " "))
	if !g.RunTime {
		what = append(what, "configured")
	}
	return fmt.Sprintf("%-20s  %s", g.Path, strings.Join(what, ", "))
}
