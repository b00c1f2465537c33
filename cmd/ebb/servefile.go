package main

import (
	"cmp"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/internal/serve"
)

func newServeFileCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "file",
		Short: "Publish single files while a server runs",
		Long: `Publish single files, wherever they are, in a group that was made without a
directory (see ebb serve group).`,
		Example: `  ebb serve group create handover
  ebb serve file add handover /var/lib/vm/disk.img
  ebb serve file add handover /tmp/report.pdf --as reports/today.pdf --read alice
  ebb serve file remove handover disk.img`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newFileAddCmd(a), newFileRemoveCmd(a), newFileListCmd(a))
	return cmd
}

func newFileAddCmd(a *app) *cobra.Command {
	var as string
	var read []string
	cmd := &cobra.Command{
		Use:   "add GROUP FILE...",
		Short: "Publish files at /GROUP/NAME",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if as != "" && len(args) > 2 {
				return usagef("--as names one file, and there are %d", len(args)-1)
			}
			c, err := a.server()
			if err != nil {
				return err
			}
			var all []serve.Made
			for _, name := range args[1:] {
				path, err := filepath.Abs(name)
				if err != nil {
					return err
				}
				made, err := c.AddFile(cmd.Context(), args[0], cmp.Or(as, filepath.Base(path)), serve.File{Path: path, Read: read})
				if err != nil {
					return serverError(err)
				}
				all = append(all, made)
			}
			return a.printMade(all...)
		},
	}
	cmd.Flags().StringVar(&as, "as", "", "`name` of the file in the group, with slashes if need be; else its own")
	cmd.Flags().StringSliceVar(&read, "read", nil, "`users` who may read it; else those of the group")
	return cmd
}

func newFileRemoveCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "remove GROUP NAME...",
		Short: "Publish files no longer; they stay where they are",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				if err := c.RemoveFile(cmd.Context(), args[0], name); err != nil {
					return serverError(err)
				}
			}
			return nil
		},
	}
}

func newFileListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list [GROUP]",
		Short: "List the files that are published one by one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			groups, err := c.Groups(cmd.Context())
			if err != nil {
				return serverError(err)
			}
			files := map[string]serve.File{} // by the path of the URL
			for _, g := range groups {
				if len(args) > 0 && strings.Trim(g.Path, "/") != strings.Trim(args[0], "/") {
					continue
				}
				for name, f := range g.Files {
					files[g.Path+name] = f
				}
			}
			if a.json {
				return a.printJSON(files)
			}
			for _, name := range slices.Sorted(maps.Keys(files)) {
				who := ""
				if len(files[name].Read) > 0 {
					who = "  for " + strings.Join(files[name].Read, " ")
				}
				a.printf("%s  %s%s\n", safe(name), a.place(files[name].Path), safe(who))
			}
			return nil
		},
	}
}
