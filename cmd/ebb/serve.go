package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/serve"
	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// serveFlags are what `ebb serve` is told on the command line.
type serveFlags struct {
	listen     []string
	root       string
	uploads    bool
	overwrite  bool
	listing    bool
	config     string
	cert, key  string
	selfSigned bool
	metrics    string
	state      string
	verbose    bool

	branchCache, branchCacheHTTP bool
	branchCacheSecret            string
	hostedCache                  bool
	hostedCacheAllow             []string
}

func newServeCmd(a *app) *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve files, and take uploads",
		Long: `Serve the files of a directory over HTTP or HTTPS and, with --uploads, take uploads
into it: by BITS, tus, the IETF's resumable uploads, and PUT. An upload that breaks
off goes on where it was, also after this server was killed; a file appears whole
or not at all.

Everything else is set in one TOML file (--config): several groups of files, users,
tokens, client certificates, limits, notifications. docs/serve.md tells all keys.`,
		Example: `  ebb serve --root /srv/files
  ebb serve --listen :8080 --root /srv/in --uploads
  ebb serve --listen https://:8443 --self-signed --root /srv/in --uploads
  ebb serve --config /etc/ebb/serve.toml
  ebb serve check /etc/ebb/serve.toml`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.load()
			var wrong policy.Problems
			if errors.As(err, &wrong) {
				return a.problems(wrong)
			}
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if f.verbose {
				level = slog.LevelDebug
			}
			home, runtime := client.UserState(), filepath.Dir(client.UserSocket())
			if home == "" && (f.state == "" || a.socket == "") {
				return hinted(usagef("there is no place for what the server keeps: %w", client.ErrNoHome), "give --state and --socket, or set HOME or XDG_STATE_HOME")
			}
			return serve.Run(cmd.Context(), serve.Options{
				Config: c, State: f.state, StateHome: filepath.Join(home, "serve"), Socket: a.socket, Runtime: runtime, Version: ownVersion(),
				Log:     slog.New(slog.NewTextHandler(a.err, &slog.HandlerOptions{Level: level})),
				Started: func(s serve.Started) { a.printServing(c, s) },
			})
		},
	}
	cmd.Flags().StringSliceVar(&f.listen, "listen", nil, "`address` to listen on: :8080, 127.0.0.1:8080, https://:8443 (default :8080)")
	cmd.Flags().StringVar(&f.root, "root", "", "`directory` to serve at /")
	cmd.Flags().BoolVar(&f.uploads, "uploads", false, "take uploads into the directory")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "with --uploads: an upload may replace a file that exists")
	cmd.Flags().BoolVar(&f.listing, "listing", false, "list the names in directories")
	cmd.Flags().StringVar(&f.config, "config", "", "configuration `file`")
	cmd.Flags().StringVar(&f.cert, "tls-cert", "", "PEM `file` of the certificate and its chain; it is read again when it changes")
	cmd.Flags().StringVar(&f.key, "tls-key", "", "PEM `file` of the certificate's key")
	cmd.Flags().BoolVar(&f.selfSigned, "self-signed", false, "make a certificate for a start, and print its fingerprint")
	cmd.Flags().BoolVar(&f.branchCache, "branchcache", false, "describe files to clients that ask for it and then get them from each other, over HTTPS")
	cmd.Flags().StringVar(&f.branchCacheSecret, "branchcache-secret", "", "`file` of the secret that servers of the same URLs share (default: made at random\nand kept in the state directory)")
	cmd.Flags().BoolVar(&f.branchCacheHTTP, "branchcache-http", false, "with --branchcache: over HTTP too, where others can read along")
	cmd.Flags().BoolVar(&f.hostedCache, "hosted-cache", false, "keep for machines of the network what they got, as a hosted cache of BranchCache")
	cmd.Flags().StringSliceVar(&f.hostedCacheAllow, "hosted-cache-allow", nil, "with --hosted-cache: `network` that may use it, such as 10.1.0.0/16 (default: the private\nones that this machine is in)")
	cmd.Flags().StringVar(&f.metrics, "metrics", "", "`address` for Prometheus to read from, such as 127.0.0.1:9100")
	cmd.Flags().StringVar(&f.state, "state", "", "`directory` for groups made at run time and the certificate of --self-signed\n(default: one for each address in ~/.local/state/ebb/serve)")
	cmd.Flags().BoolVar(&f.verbose, "verbose", false, "log more")
	// This one hides the root's, which is the service's.
	cmd.PersistentFlags().StringVar(&a.socket, "socket", "", "`path` of the server's admin socket (default: of the verbs, the only server that\nruns; of a server, one named after its address)")
	cmd.AddCommand(newServeCheckCmd(a), newServeGroupCmd(a), newServeFileCmd(a), newServeUploadsCmd(a), newServeCleanupCmd(a), newServePasswordCmd(a))
	return cmd
}

// load returns what the configuration file and the flags say together.
func (f *serveFlags) load() (config.Config, error) {
	var c config.Config
	if f.config != "" {
		var err error
		if c, err = config.Load(f.config); err != nil {
			return c, err
		}
	}
	for _, g := range c.Groups {
		if u := g.Uploads; u != nil && u.Storage.Bucket != "" && u.Storage.AccessKey == "" {
			u.Storage.AccessKey, u.Storage.SecretKey = os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
			u.Storage.Token = os.Getenv("AWS_SESSION_TOKEN")
			u.Storage.Region = cmp.Or(u.Storage.Region, os.Getenv("AWS_REGION"))
		}
	}
	if (f.cert == "") != (f.key == "") {
		return c, usagef("--tls-cert and --tls-key are needed both")
	}
	if f.cert != "" {
		c.TLS.Cert, c.TLS.Key, c.TLS.SelfSigned = f.cert, f.key, false
	}
	if f.selfSigned {
		if c.TLS.Cert != "" {
			return c, usagef("--self-signed and a certificate exclude each other")
		}
		c.TLS.SelfSigned = true
	}
	if f.metrics != "" {
		c.Metrics = f.metrics
	}
	if err := errors.Join(f.loadBranchCache(&c.BranchCache), f.loadHostedCache(&c.HostedCache)); err != nil {
		return c, err
	}
	if len(f.listen) > 0 {
		c.Listen = nil
	} else if len(c.Listen) == 0 {
		f.listen = []string{":8080"}
	}
	for _, text := range f.listen {
		addr, err := config.ParseAddress(text, c.TLS.On())
		if err != nil {
			return c, usagef("--listen: %w", err)
		}
		if addr.TLS && !c.TLS.On() {
			return c, hinted(usagef("%s needs a certificate", text), "give --tls-cert and --tls-key, or --self-signed")
		}
		c.Listen = append(c.Listen, addr)
	}
	if f.overwrite && !f.uploads {
		return c, usagef("--overwrite is for --uploads, which is missing")
	}
	if f.root == "" {
		if f.uploads || f.listing {
			return c, usagef("--uploads and --listing are for the directory of --root, which is missing")
		}
		if len(c.Groups) == 0 && f.config == "" && !c.HostedCache.On {
			return c, hinted(usagef("there is nothing to serve"), "give --root or --config, or --hosted-cache")
		}
		return c, nil
	}
	root, err := filepath.Abs(f.root)
	if err != nil {
		return c, err
	}
	if st, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
		return c, hinted(usagef("there is no directory %s", f.root), "create it first")
	} else if err != nil {
		return c, err
	} else if !st.IsDir() {
		return c, usagef("%s is not a directory", f.root)
	}
	for _, g := range c.Groups {
		if g.Path == "/" {
			return c, usagef("the configuration file has a group for / already, so there is no place for --root")
		}
	}
	g := config.Group{Path: "/", Dir: root, Listing: f.listing, Read: c.DefaultAccess(), Write: c.DefaultAccess()}
	if f.uploads {
		u := config.DefaultUploads(g.Write)
		u.Overwrite = f.overwrite
		g.Uploads = &u
	}
	c.Groups = append(c.Groups, g)
	return c, nil
}

// loadBranchCache adds what the flags say of BranchCache.
func (f *serveFlags) loadBranchCache(b *config.BranchCache) (err error) {
	b.On = b.On || f.branchCache
	if !b.On && (f.branchCacheSecret != "" || f.branchCacheHTTP) {
		return usagef("--branchcache-secret and --branchcache-http are for --branchcache, which is missing")
	}
	b.PlainHTTP = b.PlainHTTP || f.branchCacheHTTP
	if f.branchCacheSecret != "" {
		b.Secret, err = filepath.Abs(f.branchCacheSecret)
	}
	return err
}

// loadHostedCache adds what the flags say of the hosted cache.
func (f *serveFlags) loadHostedCache(h *config.HostedCache) error {
	h.On = h.On || f.hostedCache
	if !h.On && len(f.hostedCacheAllow) > 0 {
		return usagef("--hosted-cache-allow is for --hosted-cache, which is missing")
	}
	if len(f.hostedCacheAllow) > 0 {
		h.Allow = nil
	}
	for _, text := range f.hostedCacheAllow {
		p, err := config.ParseNetwork(text)
		if err != nil {
			return usagef("--hosted-cache-allow: %w", err)
		}
		h.Allow = append(h.Allow, p)
	}
	return nil
}

// printServing tells what is served where, and how to use it.
func (a *app) printServing(c config.Config, s serve.Started) {
	if a.json {
		_ = a.printJSON(s)
		return
	}
	if a.quiet {
		return
	}
	var b strings.Builder
	for _, url := range s.URLs {
		for _, g := range c.Groups {
			what := a.place(g.Dir)
			switch {
			case g.Dir == "" && g.Uploads != nil:
				what = "s3://" + g.Uploads.Storage.Bucket + "/" + g.Uploads.Storage.Prefix
			case g.Dir == "":
				what = fmt.Sprintf("%d listed files", len(g.Files))
			}
			_, _ = fmt.Fprintf(&b, "serving %s at %s%s\n", what, url, g.Path)
		}
	}
	if c.HostedCache.On {
		_, _ = fmt.Fprintf(&b, "hosted cache at %s\n", strings.Join(s.URLs, " and "))
	}
	url, curl, get := s.URLs[0], "curl ", "ebb get %s%sFILE\n"
	if s.Certificate != "" {
		for _, u := range s.URLs { // there may be one without TLS before it
			if strings.HasPrefix(u, "https:") {
				url = u
				break
			}
		}
		file := a.place(s.Certificate)
		_, _ = fmt.Fprintf(&b, "the certificate is self-signed: %s\n  its SHA-256 fingerprint is %s\n"+
			"  ebb trusts it if its service is started by: SSL_CERT_FILE=%s ebb daemon\n", file, s.Fingerprint, file)
		curl += "--cacert " + file + " "
		get = curl + "-O %s%sFILE\n"
	}
	for _, g := range c.Groups {
		if g.Uploads == nil {
			continue
		}
		if g.Uploads.Notify != session.NotifyNone { // nothing else is taken there
			_, _ = fmt.Fprintf(&b, "upload:   ebb put --protocol bits FILE %s%s\n", url, g.Path)
		} else {
			_, _ = fmt.Fprintf(&b, "upload:   ebb put FILE %s%s\n          %s-T FILE %s%s\n", url, g.Path, curl, url, g.Path)
		}
		break
	}
	for _, g := range c.Groups {
		if g.Dir != "" || g.Files != nil {
			_, _ = fmt.Fprintf(&b, "download: "+get, url, g.Path)
			break
		}
	}
	a.printf("%s", b.String())
}

func newServeCheckCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file, and start nothing",
		Long: `Check a configuration file: its keys and values, and that the directories of its
groups and the certificates are there and can be used. Nothing is started, and no
bucket is asked.`,
		Example: "  ebb serve check /etc/ebb/serve.toml",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := config.Load(args[0])
			if err != nil {
				return a.problems(err)
			}
			if err := serve.Check(c); err != nil {
				return err
			}
			a.printf("ok\n")
			return nil
		},
	}
}
