package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/policy"
	"github.com/ebbtransfer/ebb/internal/serve/access"
	"github.com/ebbtransfer/ebb/internal/serve/files"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// file is the text's form. Values with a unit or a range are texts here, so that all that is wrong
// with them can be told at once.
type file struct {
	Listen  []string             `toml:"listen"`
	Metrics string               `toml:"metrics"`
	TLS     fileTLS              `toml:"tls"`
	Users   map[string]fileUser  `toml:"users"`
	Tokens  map[string]fileToken `toml:"tokens"`
	Group   []fileGroup          `toml:"group"`

	BranchCache *fileBranchCache `toml:"branchcache"`
	HostedCache *fileHostedCache `toml:"hosted_cache"`
}

type fileHostedCache struct {
	Enabled *bool    `toml:"enabled"`
	Size    *string  `toml:"size"`
	MaxAge  *string  `toml:"max_age"`
	Allow   []string `toml:"allow"`
}

type fileBranchCache struct {
	Enabled    *bool   `toml:"enabled"`
	Secret     string  `toml:"secret"`
	HTTP       bool    `toml:"http"`
	Version    *int    `toml:"version"`
	HashesSize *string `toml:"hashes_size"`
	HashesAge  *string `toml:"hashes_age"`
}

type fileTLS struct {
	Cert       string `toml:"cert"`
	Key        string `toml:"key"`
	SelfSigned bool   `toml:"self_signed"`
	ClientCA   string `toml:"client_ca"`
	Client     string `toml:"client_certificates"`
}

type fileUser struct {
	Password string `toml:"password"`
}

type fileToken struct {
	Token string `toml:"token"`
}

type fileGroup struct {
	Path        string            `toml:"path"`
	Dir         string            `toml:"dir"`
	Files       map[string]string `toml:"files"`
	Listing     bool              `toml:"listing"`
	Connections *int              `toml:"connections"`
	Bandwidth   *string           `toml:"bandwidth"`
	Read        []string          `toml:"read"`
	Write       []string          `toml:"write"`
	Uploads     *fileUploads      `toml:"uploads"`
	BITS        *fileBITS         `toml:"bits"`

	BranchCache        *bool `toml:"branchcache"`
	BranchCacheHTTP    *bool `toml:"branchcache_http"`
	BranchCacheVersion *int  `toml:"branchcache_version"`
}

type fileUploads struct {
	Enabled         *bool    `toml:"enabled"`
	SessionTimeout  *string  `toml:"session_timeout"`
	MaxSize         *string  `toml:"max_size"`
	MaxFragment     *string  `toml:"max_fragment"`
	Overwrite       *bool    `toml:"overwrite"`
	HostID          *string  `toml:"host_id"`
	HostIDFallback  *string  `toml:"host_id_fallback"`
	Notify          *string  `toml:"notify"`
	NotifyURL       *string  `toml:"notify_url"`
	NotifyTimeout   *string  `toml:"notify_timeout"`
	PublicURL       *string  `toml:"public_url"`
	Cleanup         *string  `toml:"cleanup"`
	SessionsPerUser *int     `toml:"sessions_per_user"`
	MinFree         *string  `toml:"min_free_space"`
	Origins         []string `toml:"origins"`
	Storage         *string  `toml:"storage"`
	Endpoint        *string  `toml:"s3_endpoint"`
	Region          *string  `toml:"s3_region"`
	AccessKey       *string  `toml:"s3_access_key"`
	SecretKey       *string  `toml:"s3_secret_key"`
}

// Load reads a file. What is wrong with it is told as policy.Problems.
func Load(name string) (Config, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return Config{}, err
	}
	return Parse(name, text)
}

// Parse reads the text of a file of that name; paths in it are relative to its directory.
func Parse(name string, text []byte) (Config, error) {
	var f file
	r := reader{name: name, dir: filepath.Dir(name)}
	dec := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		r.malformed(err)
		return Config{}, r.problems
	}
	r.lines = lines(text)
	c := r.config(f)
	if len(r.problems) > 0 {
		slices.SortStableFunc(r.problems, func(a, b bits.PolicyProblem) int { return cmp.Compare(a.Line, b.Line) })
		return Config{}, r.problems
	}
	return c, nil
}

// reader checks a file and gathers what is wrong with it.
type reader struct {
	name, dir string
	lines     map[string]int
	problems  policy.Problems
}

func (r *reader) problem(key, format string, args ...any) {
	line, at := 0, key
	for at != "" && line == 0 { // of a key that is missing, the line of its table
		line = r.lines[at]
		at = at[:max(0, strings.LastIndexByte(at, '.'))]
	}
	r.problems = append(r.problems, bits.PolicyProblem{File: r.name, Line: line, Key: key, Message: fmt.Sprintf(format, args...)})
}

// malformed reports what is not TOML, of another type than wanted, or not known.
func (r *reader) malformed(err error) {
	var unknown *toml.StrictMissingError
	var at *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		for i := range unknown.Errors {
			e := &unknown.Errors[i]
			line, _ := e.Position()
			key := e.Key()
			message := "there is no such key"
			if s := policy.Suggest(key[len(key)-1], keysAt(typeAt(key[:len(key)-1]))); s != "" {
				message += fmt.Sprintf("; did you mean %s?", s)
			}
			r.problems = append(r.problems, bits.PolicyProblem{File: r.name, Line: line, Key: strings.Join(key, "."), Message: message})
		}
	case errors.As(err, &at):
		line, _ := at.Position()
		r.problems = policy.Problems{{File: r.name, Line: line, Key: strings.Join(at.Key(), "."), Message: inWords(at)}}
	default:
		r.problems = policy.Problems{{File: r.name, Message: strings.TrimPrefix(err.Error(), "toml: ")}}
	}
}

// examples are of texts that one may take for numbers.
var examples = map[string]string{
	"bandwidth": "50 MB/s", "max_size": "20 GB", "max_fragment": "64 MiB", "min_free_space": "1 GB",
	"session_timeout": "14d", "host_id_fallback": "1d", "notify_timeout": "5m", "cleanup": "12h",
	"hashes_size": "1 GB", "hashes_age": "28d", "size": "100 GB", "max_age": "28d",
}

// inWords says what a decoder's error means: of a value of another type, which one is wanted.
func inWords(e *toml.DecodeError) string {
	message, key := strings.TrimPrefix(e.Error(), "toml: "), e.Key()
	t := typeAt(key)
	if t == nil || len(key) == 0 || !strings.Contains(message, "cannot decode TOML") && !strings.Contains(message, "cannot store") {
		return message
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool:
		return "want true or false"
	case reflect.Int, reflect.Int64:
		return "want a whole number, without quotes"
	case reflect.String:
		if example, ok := examples[strings.ToLower(key[len(key)-1])]; ok {
			return fmt.Sprintf("want a text such as %q", example)
		}
		return "want a text, in quotes"
	case reflect.Slice:
		if t.Elem().Kind() == reflect.String {
			return `want a list of texts, such as ["one", "two"]`
		}
		return fmt.Sprintf("want tables, each beginning with [[%s]]", strings.Join(key, "."))
	case reflect.Map, reflect.Struct:
		return "want a table"
	default:
		return message
	}
}

// typeAt returns the type of what is at a path; nil if there is no such place.
func typeAt(path []string) reflect.Type {
	t := reflect.TypeFor[file]()
	for _, name := range path {
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		switch t.Kind() {
		case reflect.Map:
			t = t.Elem()
		case reflect.Struct:
			f, ok := t.FieldByNameFunc(func(field string) bool {
				f, _ := t.FieldByName(field)
				return strings.EqualFold(f.Tag.Get("toml"), name)
			})
			if !ok {
				return nil
			}
			t = f.Type
		default:
			return nil
		}
	}
	return t
}

// keysAt returns the keys of a table of that type.
func keysAt(t reflect.Type) []string {
	for t != nil && (t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice) {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range t.Fields() {
		names = append(names, f.Tag.Get("toml"))
	}
	return names
}

func (r *reader) config(f file) Config {
	c := Config{Metrics: f.Metrics, Users: map[string]string{}, Tokens: map[string]string{}}
	c.TLS = r.tls(f.TLS)
	if f.BranchCache != nil {
		c.BranchCache = r.branchCache(f.BranchCache)
	}
	if f.HostedCache != nil {
		c.HostedCache = r.hostedCache(f.HostedCache)
	}
	for _, text := range f.Listen {
		a, err := ParseAddress(text, c.TLS.On())
		if err != nil {
			r.problem("listen", "%s", err)
		}
		if a.TLS && !c.TLS.On() {
			r.problem("listen", "%s needs a certificate: set tls.cert and tls.key, or tls.self_signed", text)
		}
		c.Listen = append(c.Listen, a)
	}
	for name, u := range f.Users {
		r.principal("users", name)
		if _, err := access.New(map[string]string{name: u.Password}, nil, false); err != nil {
			r.problem("users."+name+".password", "%s", err)
		}
		c.Users[name] = u.Password
	}
	for name, t := range f.Tokens {
		r.principal("tokens", name)
		if _, err := access.New(nil, map[string]string{name: t.Token}, false); err != nil {
			r.problem("tokens."+name+".token", "%s", err)
		}
		c.Tokens[name] = t.Token
	}
	paths, dirs := map[string]bool{}, map[string]bool{}
	for i, g := range f.Group {
		key := fmt.Sprintf("group[%d]", i)
		group := r.group(key, g, &c)
		if paths[group.Path] {
			r.problem(key+".path", "another group has the path %s too", group.Path)
		}
		paths[group.Path] = true
		if group.Uploads != nil && group.Uploads.Storage.Bucket == "" && dirs[group.Dir] {
			r.problem(key+".dir", "another group takes uploads into the directory too")
		}
		dirs[group.Dir] = group.Uploads != nil
		c.Groups = append(c.Groups, group)
	}
	return c
}

// On reports whether there is a certificate.
func (t TLS) On() bool { return t.Cert != "" || t.SelfSigned }

func (r *reader) tls(f fileTLS) TLS {
	t := TLS{Cert: r.path(f.Cert), Key: r.path(f.Key), SelfSigned: f.SelfSigned, ClientCA: r.path(f.ClientCA)}
	if (t.Cert == "") != (t.Key == "") {
		r.problem("tls.cert", "cert and key are needed both")
	}
	if t.Cert != "" && t.SelfSigned {
		r.problem("tls.self_signed", "there is a certificate already")
	}
	switch f.Client {
	case "", "optional":
	case "required":
		t.ClientRequired = true
	default:
		r.problem("tls.client_certificates", `want "optional" or "required"`)
	}
	if f.Client != "" && f.ClientCA == "" {
		r.problem("tls.client_certificates", "there is no client_ca")
	}
	return t
}

func (r *reader) branchCache(f *fileBranchCache) BranchCache {
	const key = "branchcache"
	b := BranchCache{On: f.Enabled == nil || *f.Enabled, Secret: r.path(f.Secret), PlainHTTP: f.HTTP}
	b.Version = r.infoVersion(key+".version", f.Version)
	set(r, key+".hashes_size", f.HashesSize, &b.HashesSize, parseHashes)
	set(r, key+".hashes_age", f.HashesAge, &b.HashesAge, within(time.Hour, 3650*day))
	return b
}

func (r *reader) hostedCache(f *fileHostedCache) HostedCache {
	const key = "hosted_cache"
	h := HostedCache{On: f.Enabled == nil || *f.Enabled}
	set(r, key+".size", f.Size, &h.Size, parseHosted)
	set(r, key+".max_age", f.MaxAge, &h.MaxAge, within(time.Hour, 3650*day))
	for _, text := range f.Allow {
		p, err := ParseNetwork(text)
		if err != nil {
			r.problem(key+".allow", "%s", err)
		}
		h.Allow = append(h.Allow, p)
	}
	return h
}

// leastHosted has room for a few segments of version 1.
const leastHosted = 256 << 20

func parseHosted(text string) (int64, error) {
	n, err := ParseSize(text)
	if err == nil && n < leastHosted {
		return 0, fmt.Errorf("%s is out of range; want 256 MiB or more", text)
	}
	return n, err
}

// infoVersion reads a version of content information; 0 if there is none.
func (r *reader) infoVersion(key string, n *int) int {
	switch {
	case n == nil:
		return 0
	case *n != 1 && *n != 2:
		r.problem(key, "want 1, for clients of Windows 7 and large files that never change, or 2")
	}
	return *n
}

// leastHashes has room for the hashes of files of 50 GB or so.
const leastHashes = 32 << 20

func parseHashes(text string) (int64, error) {
	n, err := ParseSize(text)
	if err == nil && n < leastHashes {
		return 0, fmt.Errorf("%s is out of range; want 32 MiB or more", text)
	}
	return n, err
}

func (r *reader) principal(table, name string) {
	if name == "" || name == Anyone || name == Authenticated || strings.ContainsAny(name, ":\n") {
		r.problem(table+"."+name, "%q cannot be the name of a user or a token", name)
	}
}

// path makes a path of the file absolute or relative to the working directory.
func (r *reader) path(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(r.dir, p)
}

func (r *reader) group(key string, f fileGroup, c *Config) Group {
	g := Group{Path: f.Path, Dir: r.path(f.Dir), Listing: f.Listing, Read: f.Read, Write: f.Write}
	var ok bool
	if g.Path, ok = cleanPath(f.Path); !ok {
		r.problem(key+".path", `want a path such as "/" or "/images/"`)
	}
	if f.Files != nil {
		g.Files = map[string]string{}
		for name, file := range f.Files {
			if err := files.CheckName(name); err != nil {
				r.problem(key+".files", "%s", err)
			}
			g.Files[name] = r.path(file)
		}
		if f.Dir != "" {
			r.problem(key+".files", "a group has either dir or files")
		}
	}
	if f.Connections != nil {
		if g.Connections = *f.Connections; g.Connections < 0 {
			r.problem(key+".connections", "want 1 or more, or 0 for no limit")
		}
	}
	set(r, key+".bandwidth", f.Bandwidth, &g.Bandwidth, ParseRate)
	if g.Read == nil {
		g.Read = c.DefaultAccess()
	}
	if g.Write == nil {
		g.Write = c.DefaultAccess()
	}
	for what, list := range map[string][]string{"read": g.Read, "write": g.Write} {
		for _, name := range list {
			r.allowed(key+"."+what, name, c)
		}
	}
	if f.Uploads != nil || f.BITS != nil {
		r.uploads(key, f, &g)
	}
	g.BranchCache = GroupBranchCache{Off: f.BranchCache != nil && !*f.BranchCache, PlainHTTP: f.BranchCacheHTTP,
		Version: r.infoVersion(key+".branchcache_version", f.BranchCacheVersion)}
	if g.Dir == "" && f.Files == nil && (g.Uploads == nil || g.Uploads.Storage.Bucket == "") {
		r.problem(key, "has nothing to serve: set dir or files")
	}
	return g
}

// DefaultAccess is who may read and write where nothing is said: anyone, or whoever says who he
// is once there are ways to say it.
func (c *Config) DefaultAccess() []string {
	if len(c.Users)+len(c.Tokens) > 0 || c.TLS.ClientCA != "" {
		return []string{Authenticated}
	}
	return []string{Anyone}
}

// allowed checks a name in read or write.
func (r *reader) allowed(key, name string, c *Config) {
	if err := c.CheckAllowed(name); err != nil {
		r.problem(key, "%s", err)
	}
}

// CheckAllowed says what is wrong with a name of somebody who may read or write.
func (c *Config) CheckAllowed(name string) error {
	_, user := c.Users[name]
	_, token := c.Tokens[name]
	if name == Anyone || name == Authenticated || user || token || c.TLS.ClientCA != "" { // of certificates anything
		return nil
	}
	all := slices.Concat([]string{Anyone, Authenticated}, slices.Collect(maps.Keys(c.Users)), slices.Collect(maps.Keys(c.Tokens)))
	hint := ""
	if s := policy.Suggest(name, all); s != "" {
		hint = fmt.Sprintf("; did you mean %q?", s)
	}
	return fmt.Errorf("there is no user or token %q%s", name, hint)
}

// set parses a value where there is one.
func set[T any](r *reader, key string, text *string, to *T, parse func(string) (T, error)) {
	if text == nil {
		return
	}
	v, err := parse(*text)
	if err != nil {
		r.problem(key, "%s", err)
		return
	}
	*to = v
}

func within(lo, hi time.Duration) func(string) (time.Duration, error) {
	return func(text string) (time.Duration, error) { return parseDuration(text, lo, hi) }
}

const (
	day = 24 * time.Hour
	// dword is the most seconds that a property of BITS can have.
	dword = (1<<32 - 1) * time.Second
)

func (r *reader) uploads(key string, f fileGroup, g *Group) {
	u := DefaultUploads(g.Write)
	enabled := f.Uploads != nil
	if f.BITS != nil { // whose default is off
		enabled = r.bits(key+".bits", f.BITS, &u, enabled)
	}
	key += ".uploads"
	if o := f.Uploads; o != nil {
		if o.Enabled != nil {
			enabled = *o.Enabled
		}
		set(r, key+".session_timeout", o.SessionTimeout, &u.SessionTimeout, within(time.Second, dword))
		set(r, key+".max_size", o.MaxSize, &u.MaxSize, ParseSize)
		set(r, key+".max_fragment", o.MaxFragment, &u.MaxFragment, parseFragment)
		set(r, key+".host_id", o.HostID, &u.HostID, parseHostID)
		set(r, key+".host_id_fallback", o.HostIDFallback, &u.HostIDFallback, within(time.Second, dword))
		set(r, key+".notify", o.Notify, &u.Notify, parseNotify)
		set(r, key+".notify_url", o.NotifyURL, &u.NotifyURL, parseNotifyURL)
		set(r, key+".notify_timeout", o.NotifyTimeout, &u.NotifyTimeout, within(time.Second, day))
		set(r, key+".public_url", o.PublicURL, &u.PublicURL, parsePublicURL)
		set(r, key+".cleanup", o.Cleanup, &u.Cleanup, within(time.Minute, 360*day))
		set(r, key+".storage", o.Storage, &u.Storage, r.storage)
		set(r, key+".min_free_space", o.MinFree, &u.MinFree, parseFree)
		for _, origin := range o.Origins {
			if o, err := parsePublicURL(origin); origin != "*" && (err != nil || o != origin) {
				r.problem(key+".origins", `%q is not an origin, such as "https://app.example.org", or "*"`, origin)
			}
		}
		u.Origins = o.Origins
		if o.Overwrite != nil {
			u.Overwrite = *o.Overwrite
		}
		if o.SessionsPerUser != nil {
			if u.SessionsPerUser = *o.SessionsPerUser; u.SessionsPerUser < 0 {
				r.problem(key+".sessions_per_user", "want 1 or more, or 0 for no limit")
			}
		}
		set(r, key+".s3_endpoint", o.Endpoint, &u.Storage.Endpoint, parsePublicURL)
		for to, from := range map[*string]*string{&u.Storage.Region: o.Region, &u.Storage.AccessKey: o.AccessKey, &u.Storage.SecretKey: o.SecretKey} {
			if from != nil {
				*to = *from
			}
		}
	}
	switch {
	case u.Notify != session.NotifyNone && u.NotifyURL == "":
		r.problem(key+".notify", "there is no notify_url")
	case u.Notify == session.NotifyNone && f.Uploads != nil && f.Uploads.NotifyURL != nil: // IIS keeps its own while there is none
		r.problem(key+".notify_url", `has no effect: notify is not set`)
	case u.Notify == session.NotifyByReference && u.Storage.Bucket != "":
		r.problem(key+".notify", "by-reference names files on this machine, and a bucket has none")
	}
	if g.Files != nil {
		r.problem(key, "a group of listed files takes no uploads")
	}
	switch {
	case g.Dir == "" && u.Storage.Bucket == "":
		r.problem(key, "there is no dir to put uploads into")
	case g.Dir != "" && u.Storage.Bucket != "":
		r.problem(key+".storage", "a group has either dir or storage: what is in a bucket is not served from here")
	}
	if enabled {
		g.Uploads = &u
	}
}

// leastFragment is what every client can go down to (server.md 1.6).
const leastFragment = 5 << 10

func parseFragment(text string) (int64, error) {
	n, err := ParseSize(text)
	if err == nil && n < leastFragment {
		return 0, fmt.Errorf("%s is out of range; want 5 KiB or more: clients do not go below that", text)
	}
	return n, err
}

func parseFree(text string) (int64, error) {
	n, err := ParseSize(text)
	if err == nil && n < 0 {
		return 0, errors.New("want a size")
	}
	return n, err
}

func parseHostID(text string) (string, error) {
	u, err := url.Parse("http://" + text)
	if err != nil || text == "" || len(text) > 300 || u.Host != text {
		return "", fmt.Errorf("%q is not a host or host:port of up to 300 characters", text)
	}
	return text, nil
}

func parseNotify(text string) (session.NotifyType, error) {
	switch text {
	case "none":
		return session.NotifyNone, nil
	case "by-reference":
		return session.NotifyByReference, nil
	case "by-value":
		return session.NotifyByValue, nil
	}
	return 0, fmt.Errorf(`%q is not a way to notify (want "none", "by-reference" or "by-value")`, text)
}

// parseNotifyURL allows relative ones: they resolve against the upload's URL (server.md 1.11).
func parseNotifyURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "", err
	case len(text) > 2200:
		return "", errors.New("it has more than 2200 characters")
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https" || text == "":
		return "", fmt.Errorf("%q is not an http or https URL", text)
	}
	return text, nil
}

func parsePublicURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return "", fmt.Errorf(`%q is not scheme and host, such as "https://files.example.org"`, text)
	}
	return u.Scheme + "://" + u.Host, nil
}

func (r *reader) storage(text string) (Storage, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "s3" || u.Host == "" || u.RawQuery != "" {
		return Storage{}, fmt.Errorf(`%q is not a bucket (want "s3://BUCKET/PREFIX")`, text)
	}
	s := Storage{Bucket: u.Host}
	if p := strings.Trim(path.Clean(u.Path), "/."); p != "" {
		s.Prefix = p + "/"
	}
	return s, nil
}
