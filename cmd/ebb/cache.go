package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
)

func newCacheCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look after the cache of peers: what downloads left for others and for later",
		Long: `Look after the cache of peers, in which the service keeps what downloads brought whose
servers take part in peer caching (see ebb peers). It is one for all users of the service,
who do not see what is in it; what a job gets from it, its own server allows it.

A segment is a part of a file, of up to 32 MiB. It goes when it is too old or when room
is needed, the one that was not used for the longest time first.`,
		Example: `  ebb cache info
  ebb cache limit 20GiB
  ebb cache clear`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCacheInfoCmd(a), newCacheListCmd(a), newCacheClearCmd(a), newCacheDeleteCmd(a), newCacheLimitCmd(a), newCacheExportCmd(a), newCacheImportCmd(a))
	return cmd
}

func newCacheInfoCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "info",
		Short:   "Show how large the cache is and may be",
		Example: `  ebb cache info --json | jq .bytes`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			srv := a.connect()
			defer srv.Close()
			i, err := srv.Cache(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(i)
			}
			a.printf("cache      %s\n", cacheText(i))
			a.printf("size       %s (peers.cache_size)\n", i.Size)
			a.printf("kept for   %s (peers.max_age)\n", i.MaxAge)
			if i.Directory != "" {
				a.printf("directory  %s\n", safe(i.Directory))
			}
			if i.Left {
				a.note("peer caching is off; what the cache had stays on the disk until `ebb cache clear`")
			}
			return nil
		},
	}
}

func newCacheListCmd(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the segments in the cache, those used last first",
		Long: `List the segments in the cache, those used last first. A segment has no name but its
public id: the cache does not know of which file it is. For administrators.`,
		Example: `  ebb cache list --limit 10`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return usagef("--limit=%d: want a number of segments", limit)
			}
			a.admin = true
			srv := a.connect()
			defer srv.Close()
			list, err := srv.ListCache(cmd.Context())
			if err != nil {
				return err
			}
			slices.SortStableFunc(list, func(p, q bits.CacheEntry) int { return q.Used.Compare(p.Used) })
			if limit > 0 {
				list = list[:min(limit, len(list))]
			}
			if a.json {
				return a.printJSON(append([]bits.CacheEntry{}, list...))
			}
			if len(list) == 0 {
				a.note("the cache is empty")
				return nil
			}
			w := a.table("ID", "HELD", "OF", "CREATED", "USED")
			for _, e := range list {
				w.row(shortSegment(e.ID), size(e.Held), size(int64(e.Length)), relative(e.Created, time.Now()), relative(e.Used, time.Now()))
			}
			return w.Flush()
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 0, "at most so many segments (`number`; 0 means all)")
	return cmd
}

// shortSegment is the part of a segment's id that people read.
func shortSegment(id string) string { return id[:min(16, len(id))] }

func newCacheClearCmd(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "clear",
		Short: "Remove all that is in the cache",
		Long: `Remove all that is in the cache. Downloads and the files that they made are not touched.
While peer caching is off, what an earlier cache left on the disk is removed. For
administrators.`,
		Example: `  sudo ebb cache clear`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !yes {
				ok, err := a.confirm("remove all that is in the cache of peers?")
				if err != nil {
					return err
				}
				if !ok {
					return &exitError{code: exitInterrupted, err: errors.New("nothing was done")}
				}
			}
			a.admin = true
			srv := a.connect()
			defer srv.Close()
			if err := srv.ClearCache(cmd.Context()); err != nil {
				return err
			}
			return a.did("the cache is empty", struct {
				Cleared bool `json:"cleared"`
			}{true})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

// did tells what was done, to a person or to a program.
func (a *app) did(sentence string, v any) error {
	if a.json {
		return a.printJSON(v)
	}
	if !a.quiet {
		a.printf("%s\n", safe(sentence))
	}
	return nil
}

func newCacheDeleteCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID...",
		Short: "Remove segments from the cache",
		Long: `Remove segments from the cache, by their ids or how these begin, with at least four
digits. For administrators.`,
		Example: `  ebb cache delete 8f14e45fceea167a`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.admin = true
			srv := a.connect()
			defer srv.Close()
			for _, id := range args {
				if err := srv.DeleteCacheEntry(cmd.Context(), id); err != nil {
					return segmentError(err)
				}
			}
			return a.did(fmt.Sprintf("removed %d segments", len(args)), struct {
				Deleted int `json:"deleted"`
			}{len(args)})
		},
	}
}

// segmentError gives an error about segments the hint that fits them: that of its code is about jobs.
func segmentError(err error) error {
	var e *bits.Error
	if errors.As(err, &e) && e.Code == bits.NotFound {
		return hinted(err, "`ebb cache list` shows what there is")
	}
	return err
}

func newCacheLimitCmd(a *app) *cobra.Command {
	var age, file string
	cmd := &cobra.Command{
		Use:   "limit [SIZE]",
		Short: "Show or change how large the cache may be, and for how long it keeps what it has",
		Long: `Show or change how large the cache may be: a part of the disk (5%) or an amount (20GiB).
While the disk has less than a tenth of it free the limit shrinks, to nothing at 2 %.
This changes the configuration file, as ` + "`ebb policy set peers.cache_size=...`" + ` does. What
is too much goes at once, what was not used for the longest time first.`,
		Example: `  ebb cache limit
  sudo ebb cache limit 10%
  sudo ebb cache limit '20 GiB' --max-age 7d`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var changes []policy.Change
			if len(args) > 0 {
				changes = append(changes, policy.Change{Key: "peers.cache_size", Value: args[0]})
			}
			if cmd.Flags().Changed("max-age") {
				changes = append(changes, policy.Change{Key: "peers.max_age", Value: age})
			}
			if changes != nil {
				return a.changePolicy(cmd.Context(), file, changes)
			}
			srv := a.connect()
			defer srv.Close()
			i, err := srv.Cache(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(i)
			}
			a.printf("%s, %s now; kept for %s\n", i.Size, size(i.Limit), i.MaxAge)
			return nil
		},
	}
	cmd.Flags().StringVar(&age, "max-age", "", "keep segments for so long: a `duration` such as 28d")
	cmd.Flags().StringVar(&file, "file", "", "another configuration `file` than the service's")
	return cmd
}

func newCacheExportCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "export FILE [ID...]",
		Short: "Write the cache, or segments of it, into a file for another machine",
		Long: `Write the cache, or the segments with these ids, into a tar file that ` + "`ebb cache import`" + `
reads on another machine: an office that is hard to reach gets by post what would take
its line for days.

THE FILE IS AS SECRET AS WHAT IS IN IT. It has contents of all users' downloads as they
are, and the secrets of their segments: who has these can get the segments from any
machine that serves them, without asking the server, for as long as the server does not
change its secret. It is made with mode 0600; keep it so, and encrypt it where it goes
through other hands. FILE may be - for the standard output. For administrators.`,
		Example: `  sudo ebb cache export /media/usb/office.tar
  sudo ebb cache export - | gpg -e -r branch@example.com > office.tar.gpg`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.admin = true
			srv := a.connect()
			defer srv.Close()
			if args[0] == "-" {
				if a.outTerm.is {
					return usagef("an export is not for a terminal")
				}
				return segmentError(srv.ExportCache(cmd.Context(), a.out, args[1:]...))
			}
			n, err := writePrivate(args[0], func(w io.Writer) error { return srv.ExportCache(cmd.Context(), w, args[1:]...) })
			if err != nil {
				return segmentError(err)
			}
			return a.did(fmt.Sprintf("wrote %s, %s; it is as secret as what is in it", args[0], size(n)), struct {
				File  string `json:"file"`
				Bytes int64  `json:"bytes"`
			}{args[0], n})
		},
	}
}

// writePrivate makes a file that nobody else can read, whole or not at all, and returns its size. Another
// file of the name, with whatever rights it had, is replaced.
func writePrivate(name string, write func(io.Writer) error) (int64, error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".ebb-*") // with mode 0600
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	err = write(f)
	var n int64
	if err == nil {
		n, err = f.Seek(0, io.SeekCurrent)
	}
	if err = cmp.Or(err, f.Sync()); err != nil {
		f.Close()
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return n, os.Rename(f.Name(), name)
}

func newCacheImportCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE",
		Short: "Put what another machine exported into the cache",
		Long: `Put what another machine exported into the cache. Every block is checked against its
hash, and what is not what it says is left out, so that it does not matter who made the
file: a download gets a block only if its own server says that it is the right one. What
was not used for long goes to make room. FILE may be - for the standard input. For
administrators.`,
		Example: `  sudo ebb cache import /media/usb/office.tar
  gpg -d office.tar.gpg | sudo ebb cache import -`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			from := a.in
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				from = f
			}
			a.admin = true
			srv := a.connect()
			defer srv.Close()
			c, err := srv.ImportCache(cmd.Context(), from)
			var e *bits.Error
			switch {
			case errors.As(err, &e) && e.Code == bits.TooLarge:
				return hinted(err, "`ebb cache limit` makes the cache larger")
			case errors.As(err, &e) && e.Code == bits.InvalidArg:
				return hinted(err, "`ebb cache export` makes what can be imported")
			case err != nil:
				return err
			}
			if c.Damaged > 0 && !a.json {
				a.note("%d parts of the file are not what they say and were left out", c.Damaged)
			}
			return a.did(fmt.Sprintf("imported %s in %d segments", size(c.Bytes), c.Segments), c)
		},
	}
}
