package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/policy"
)

func newPeersCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "peers",
		Short: "Get files from other machines of the network, and give them (BranchCache)",
		Long: `Get files from other machines of the same network that have them already, and give
them what this one has. The server that a file is from says who may have it: a machine
gets from peers only what the server would have given it, encrypted on its way, and
checks every byte. The server must speak BranchCache: ` + "`ebb serve --branchcache`" + ` does,
and Windows Server with IIS.

Peer caching is off until an administrator turns it on. docs/peers.md tells what it
does, and what it does not protect from.`,
		Example: `  sudo ebb peers enable
  ebb peers status
  ebb peers disable`,
		Args: noSuchVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPeersStatusCmd(a), newPeersEnableCmd(a), newPeersDisableCmd(a), newPeersListCmd(a), newPeersStatsCmd(a), newPeersSecretCmd(a))
	return cmd
}

// peerModes are the modes with what they mean, as status tells them.
var peerModes = map[string]string{
	string(policy.PeersOff):         "downloads get everything from their servers",
	string(policy.PeersLocal):       "downloads get blocks from this machine's own cache too",
	string(policy.PeersDistributed): "machines of the same network give each other blocks",
	string(policy.PeersHosted):      "downloads get blocks from hosted caches too",
}

func newPeersStatusCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether peer caching is on, and what it did",
		Long: `Show whether peer caching is on, where blocks are served, on which networks peers are
looked for, how large the cache is, and how much came from peers since the service
started. It needs no administrator.`,
		Example: `  ebb peers status
  ebb peers status --json | jq -r .mode`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			srv := a.connect()
			defer srv.Close()
			st, err := srv.Peers(cmd.Context())
			if err != nil {
				return err
			}
			info, err := srv.Cache(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					*bits.PeerStatus
					Cache *bits.CacheInfo `json:"cache"`
				}{st, info})
			}
			a.printPeers(st, info)
			return nil
		},
	}
}

func (a *app) printPeers(st *bits.PeerStatus, info *bits.CacheInfo) {
	line := func(name, format string, args ...any) {
		a.printf("%-14s %s\n", name, safe(fmt.Sprintf(format, args...)))
	}
	line("mode", "%s: %s", st.Mode, peerModes[st.Mode])
	if st.Problem != "" {
		line("problem", "%s", st.Problem)
	}
	if st.Mode == string(policy.PeersOff) {
		return
	}
	if !st.Fetch {
		line("fetch", "no: downloads get nothing from others (peers.fetch)")
	}
	if st.Mode != string(policy.PeersLocal) {
		serving := strings.Join(st.Serving, ", ")
		if serving == "" {
			serving = "nothing: " + cmp.Or(st.NotServing, "it is not wanted (peers.serve)")
		}
		line("serving", "%s", serving)
	}
	for _, n := range st.Networks {
		line("network", "%s %s", n.Interface, strings.Join(n.Addresses, ", "))
	}
	if st.Mode == string(policy.PeersHosted) {
		line("hosted caches", "%s", strings.Join(st.HostedCaches, ", "))
	}
	if st.DigestMode {
		line("digests", "files of which a checksum is known are shared with everybody who knows it")
	}
	line("cache", "%s", cacheText(info))
	s := &st.Stats
	line("downloads", "%s", sharesText(s))
	line("sent", "%s in %d blocks", size(s.Served), s.ServedBlocks)
}

// sharesText says where downloads got their bytes.
func sharesText(s *bits.PeerStats) string {
	all := s.FromPeers + s.FromCache + s.FromOrigin
	if all == 0 {
		return "none so far whose server takes part"
	}
	return fmt.Sprintf("%s from peers and %s from the own cache (%d%%), %s from servers", size(s.FromPeers), size(s.FromCache), percent(s.FromPeers+s.FromCache, bits.Size(all)), size(s.FromOrigin))
}

// cacheText says how full a cache is.
func cacheText(i *bits.CacheInfo) string {
	if !i.Open {
		return "none"
	}
	return fmt.Sprintf("%s of %s, %d segments", size(i.Bytes), size(i.Limit), i.Segments)
}

func newPeersEnableCmd(a *app) *cobra.Command {
	var interfaces, hosted []string
	var port int
	var plain, battery, version1, digests bool
	var file string
	cmd := &cobra.Command{
		Use:   "enable [MODE]",
		Short: "Turn peer caching on",
		Long: `Turn peer caching on, in one of three modes:

  distributed   machines of the same network ask each other (unless told otherwise)
  hosted        the caches of --hosted-cache are asked, and offered what comes
  local         downloads use what this machine has, and nobody else is asked

This changes the configuration file, as ` + "`ebb policy set peers.mode=...`" + ` does; docs/policy.md
tells all keys of [peers]. It is in effect at once, also for downloads that run.

In the modes distributed and hosted others can learn which files this machine has, if
they may have them too. Blocks are served on TCP port 2178, and machines find each
other by UDP port 3702: a firewall must let these in from the own network.`,
		Example: `  sudo ebb peers enable
  sudo ebb peers enable hosted --hosted-cache cache.example.com:2178
  ebb peers enable local`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{string(policy.PeersDistributed), string(policy.PeersHosted), string(policy.PeersLocal)},
		RunE: func(cmd *cobra.Command, args []string) error {
			mode := policy.PeersDistributed
			if len(hosted) > 0 {
				mode = policy.PeersHosted
			}
			if len(args) > 0 {
				mode = policy.PeerMode(args[0])
			}
			changes := []policy.Change{{Key: "peers.mode", Value: string(mode)}}
			for _, c := range []struct{ flag, key, value string }{
				{"hosted-cache", "peers.hosted_caches", strings.Join(hosted, ", ")},
				{"interface", "peers.interfaces", strings.Join(interfaces, ", ")},
				{"port", "peers.port", strconv.Itoa(port)},
				{"plain-http", "peers.plain_http", strconv.FormatBool(plain)},
				{"serve-on-battery", "peers.serve_on_battery", strconv.FormatBool(battery)},
				{"version1", "peers.version1_only", strconv.FormatBool(version1)},
				{"digests", "peers.digest_mode", strconv.FormatBool(digests)},
			} {
				if cmd.Flags().Changed(c.flag) {
					changes = append(changes, policy.Change{Key: c.key, Value: c.value})
				}
			}
			if err := a.changePolicy(cmd.Context(), file, changes); err != nil {
				return err
			}
			return a.peersWork(cmd.Context())
		},
	}
	cmd.Flags().StringSliceVar(&hosted, "hosted-cache", nil, "`address` of a hosted cache, with its port unless that is 80; several with commas or repeated")
	cmd.Flags().StringSliceVar(&interfaces, "interface", nil, "`name` of a network interface with peers, or auto; several with commas or repeated")
	cmd.Flags().IntVar(&port, "port", 2178, "TCP `port` that blocks are served on")
	cmd.Flags().BoolVar(&plain, "plain-http", false, "also for files from http:// servers, whose answers others can change on their way")
	cmd.Flags().BoolVar(&battery, "serve-on-battery", false, "serve while on battery too")
	cmd.Flags().BoolVar(&version1, "version1", false, "speak as Windows 7 and Server 2008 R2 do")
	cmd.Flags().BoolVar(&digests, "digests", false, "also files of which a checksum is known, from servers that know nothing of BranchCache; whoever knows it can get such a file from here")
	cmd.Flags().StringVar(&file, "file", "", "another configuration `file` than the service's")
	return cmd
}

// peersWork tells what keeps peer caching from working as it is wanted now, if a service runs.
func (a *app) peersWork(ctx context.Context) error {
	var problem string
	_, err := a.running(ctx, func(m *client.Manager, _ *bits.Policy) error {
		st, err := m.Peers(ctx)
		if err == nil {
			problem = st.Problem
		}
		return err
	})
	if err == nil && problem != "" {
		return &exitError{code: exitState, err: fmt.Errorf("peer caching is on, but %s", problem), hint: "`ebb peers status` shows when it works; another port: `ebb policy set peers.port=...`"}
	}
	return err
}

func newPeersDisableCmd(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "disable",
		Short: "Turn peer caching off",
		Long: `Turn peer caching off: nobody is asked, nothing is served, and nothing more is kept.
This changes the configuration file, as ` + "`ebb policy set peers.mode=off`" + ` does. What the
cache has stays on the disk until ` + "`ebb cache clear`" + `, and is used again when peer
caching is turned on.`,
		Example: `  sudo ebb peers disable && sudo ebb cache clear`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.changePolicy(cmd.Context(), file, []policy.Change{{Key: "peers.mode", Value: string(policy.PeersOff)}})
		},
	}
	cmd.Flags().StringVar(&file, "file", "", "another configuration `file` than the service's")
	return cmd
}

func newPeersListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the peers that had something to do with downloads lately",
		Long: `List the machines that had something for downloads lately, with what came from each. One
that did not answer, or lied, is not asked for a while. It needs an administrator, as it
tells what other users' jobs have to do with.`,
		Example: `  ebb peers list
  ebb peers list --json | jq -r '.[] | select(.lied) | .address'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a.admin = true
			srv := a.connect()
			defer srv.Close()
			st, err := srv.Peers(cmd.Context())
			if err != nil {
				return err
			}
			slices.SortFunc(st.Peers, func(p, q bits.Peer) int {
				return cmp.Or(cmp.Compare(q.Bytes, p.Bytes), strings.Compare(p.Address, q.Address))
			})
			if a.json {
				return a.printJSON(append([]bits.Peer{}, st.Peers...))
			}
			if len(st.Peers) == 0 {
				if st.Mode == string(policy.PeersOff) {
					return &bits.Error{Code: bits.PeerCachingDisabled}
				}
				a.note("no peers")
				return nil
			}
			w := a.table("ADDRESS", "RECEIVED", "LAST", "STATE")
			for _, p := range st.Peers {
				last, state := "-", "ok"
				if !p.Used.IsZero() {
					last = relative(p.Used, time.Now())
				}
				switch {
				case p.Lied && p.Avoided:
					state = "not asked: it sent what is wrong"
				case p.Avoided:
					state = "not asked: it did not answer"
				case p.Hosted:
					state = "hosted cache"
				}
				w.row(p.Address, size(p.Bytes), last, state)
			}
			return w.Flush()
		},
	}
}

func newPeersStatsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "Show what came from peers and what was sent to them",
		Long: `Show counts since the service started: where downloads got their bytes, what peers were
sent, and how often the network was asked. ` + "`ebb show`" + ` tells the same of each file.`,
		Example: `  ebb peers stats
  ebb peers stats --json | jq .bytes_from_peers`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			srv := a.connect()
			defer srv.Close()
			st, err := srv.Peers(cmd.Context())
			if err != nil {
				return err
			}
			s := &st.Stats
			if a.json {
				return a.printJSON(s)
			}
			line := func(name, format string, args ...any) { a.printf("%-11s %s\n", name, fmt.Sprintf(format, args...)) }
			line("downloads", "%s", sharesText(s))
			line("received", "%s from others", size(s.Fetched))
			line("sent", "%s in %d blocks; %d requests too many", size(s.Served), s.ServedBlocks, s.Refused)
			line("asked", "%d times, %d answers", s.Probes, s.Answers)
			line("was asked", "%d times, %d answered; %d datagrams dropped", s.Probed, s.Answered, s.Dropped)
			line("offered", "%d segments to hosted caches", s.Offers)
			return nil
		},
	}
}

// table is a table whose columns are as wide as they must be.
type table struct{ *tabwriter.Writer }

func (a *app) table(heads ...string) table {
	t := table{tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)}
	t.row(heads...)
	return t
}

func (t table) row(cells ...string) {
	for i := range cells {
		cells[i] = safe(cells[i])
	}
	_, _ = fmt.Fprintln(t, strings.Join(cells, "\t"))
}
