package transfer

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
	"github.com/ebbtransfer/ebb/internal/transfer/linkheader"
	"github.com/ebbtransfer/ebb/internal/transfer/upload"
)

// sources are the URLs that a file can be had from.
type sources struct {
	url    string           // the one in use
	urls   []string         // all, the best first
	given  int              // so many of them are the job's owner's word, the rest a server's
	origin string           // where the bytes that are here come from
	failed map[string]error // those that were tried in this go
	other  string           // one that answered, but has another version than what is here; empty if none
	forced bool             // nothing else is left: url may start the file again
	single bool             // bytes of several sources made no proper file: they are not joined any more
	joined bool             // bytes of several sources are here
}

// errOther says that a source has another version of the file than the one of which bytes are here.
var errOther = errors.New("another version of the file")

// health remembers which servers failed lately, so that every file of every job need not find out
// by itself. It holds back only where there is another source.
type health struct {
	mu    sync.Mutex
	hosts map[string]ailing // guarded by mu
}

type ailing struct {
	times int       // failures in a row
	until time.Time // not asked before, if there is another source
}

const (
	leastAilment = 15 * time.Second
	mostAilment  = 10 * time.Minute
	mostAiling   = 1024 // hosts that are remembered
)

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

func (h *health) fails(raw string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.hosts == nil || len(h.hosts) >= mostAiling {
		h.hosts = map[string]ailing{}
	}
	host := hostOf(raw)
	a := h.hosts[host]
	a.times++
	a.until = now.Add(min(leastAilment<<min(a.times-1, 10), mostAilment))
	h.hosts[host] = a
}

func (h *health) works(raw string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.hosts, hostOf(raw))
}

func (h *health) ails(raw string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return now.Before(h.hosts[hostOf(raw)].until)
}

// findSources lists the sources and chooses the first one: that of the bytes that are here, else the
// best; a server that failed lately only if all have.
func (d *download) findSources() {
	s := &d.src
	*s = sources{urls: []string{d.f.Remote}, given: 1, failed: map[string]error{}}
	if x := d.f.Extra; x != nil {
		s.urls = append(s.urls, x.Mirrors...)
		s.given = len(s.urls)
	}
	s.url, s.origin = d.f.Remote, d.f.Remote
	if p := d.f.Part; p != nil {
		for _, u := range p.Duplicates {
			if !slices.Contains(s.urls, u) {
				s.urls = append(s.urls, u)
			}
		}
		if p.Source != "" {
			s.origin = p.Source
		}
		d.expectDigest(p.Digest)
	}
	if len(s.urls) == 1 {
		return
	}
	now := time.Now()
	if d.f.Done > 0 && slices.Contains(s.urls, s.origin) && !d.health.ails(s.origin, now) {
		s.url = s.origin
		return
	}
	for i, u := range s.urls {
		if !d.health.ails(u, now) && (i < s.given || d.expected() != "") {
			s.url = u
			return
		}
	}
}

// elsewhere says of the validator of what is here whether it is from another source than the one in
// use: entity tags of two servers have nothing to do with each other.
func (d *download) elsewhere() {
	d.validator.Elsewhere = d.src.url != d.src.origin
	d.validator.Verified = d.validator.Elsewhere && d.expected() != "" && !d.src.single
}

// learned reports whether only a server named the source in use.
func (d *download) learned() bool { return slices.Index(d.src.urls, d.src.url) >= d.src.given }

// kept returns the digest that stays when the file starts again: that of the file's own server goes
// with what it was said of, but without one nothing would check a source that only a server named.
func (d *download) kept() string {
	if d.f.Part == nil || !d.learned() {
		return ""
	}
	return d.f.Part.Digest
}

// source returns what the record tells of the source: nothing if it is the file's own URL.
func (d *download) source() string {
	if d.src.url == d.f.Remote {
		return ""
	}
	return d.src.url
}

// healthy notes that the source in use works.
func (d *download) healthy() {
	if len(d.src.urls) > 1 {
		d.health.works(d.src.url)
	}
}

// expected returns the digest that the whole file must have: what its owner said, else what its
// server did; empty if neither has.
func (t *transit) expected() string {
	switch {
	case t.f.Checksum != "":
		return t.f.Checksum
	case t.f.Part != nil:
		return t.f.Part.Digest
	}
	return ""
}

// expectDigest takes a server's word for the digest of the file, unless its owner gave one. It
// comes before the first byte.
func (d *download) expectDigest(digest string) {
	if digest != "" && d.f.Checksum == "" {
		d.hash = newHash(digest)
	}
}

// get asks the source in use.
func (d *download) get(ctx context.Context, r httpget.Request) (*httpget.Response, error) {
	if fileget.Is(r.URL) {
		return fileget.Get(ctx, d.job.Owner, r)
	}
	return d.http.Get(d.guard(ctx), r)
}

// confirm asks the source in use whether the file is still the same.
func (d *download) confirm(ctx context.Context) (string, error) {
	if fileget.Is(d.src.url) {
		return fileget.Changed(d.job.Owner, d.src.url, d.validator)
	}
	return d.http.Changed(d.guard(ctx), d.src.url, d.job.Header, d.validator, d.job.Class)
}

// named returns the URL that the file's owner named: that of the document that named its URLs, if
// there was one, and not the one to which a server has moved it for good.
func named(f *store.File) string {
	if x := f.Extra; x != nil && x.NamedBy != "" {
		return x.NamedBy
	}
	if x := f.Extra; x != nil && x.Moved != nil && x.Moved.To == f.Remote {
		return x.Moved.From
	}
	return f.Remote
}

// movedTo notes in a file's record that its server has moved it for good.
func movedTo(f *store.File, to string) {
	var extra store.FileExtra
	if f.Extra != nil {
		extra = *f.Extra
	}
	extra.Moved = &store.Moved{From: named(f), To: to}
	f.Extra, f.Remote = &extra, to
}

// guard keeps what is the owner's to the server that the owner named, for requests to a URL of a
// file, also once that server has moved it.
func guard(ctx context.Context, f *store.File, u string) context.Context {
	n := named(f)
	if n == f.Remote || u != f.Remote && f.Extra.NamedBy == "" { // u is the owner's word
		return ctx
	}
	return httpconn.OnBehalf(ctx, n)
}

// moved notes that the file's server has moved it to another URL, if that is not empty; it is
// recorded with what comes next. Mirrors cannot move it.
func (d *download) moved(to string) {
	from := d.f.Remote
	if to == "" || d.src.url != from {
		return
	}
	for _, u := range []*string{&d.src.url, &d.src.origin} {
		if *u == from {
			*u = to
		}
	}
	if i := slices.Index(d.src.urls, from); i >= 0 {
		d.src.urls[i] = to
	}
	movedTo(&d.f, to)
}

// guard is as the function of that name, and keeps a source that a server named from leading to what
// only this machine can reach.
func (d *download) guard(ctx context.Context) context.Context {
	if !d.learned() {
		return guard(ctx, &d.f, d.src.url)
	}
	return httpconn.OnRedirect(httpconn.OnBehalf(abroad(ctx, named(&d.f)), named(&d.f)), upload.Allowed)
}

// abroad is httpconn.Abroad for the server of a URL that the job's owner named.
func abroad(ctx context.Context, remote string) context.Context {
	from, err := url.Parse(remote)
	if err != nil {
		from = &url.URL{} // of no server
	}
	if from.Scheme == "s3" { // whose endpoint the environment names, and whose redirects are not followed
		return ctx
	}
	return httpconn.Abroad(ctx, from)
}

// mayRestart refuses an answer that would throw away what is here, as long as there is a source
// that could go on with it.
func (d *download) mayRestart(resp *httpget.Response) error {
	again := resp.Body == nil || d.offset() > 0 && resp.Offset == 0
	if !again || !d.validator.Elsewhere || d.src.forced || !slices.Contains(d.src.urls, d.src.origin) {
		return nil
	}
	return &bits.Error{Code: bits.RemoteFileChanged, Context: bits.ContextRemoteFile, File: d.src.url, Cause: errOther,
		Message: fmt.Sprintf("%s has another version of the file than %s", bits.RedactURL(d.src.url), bits.RedactURL(d.src.origin))}
}

// joins notes where the bytes come from that follow.
func (d *download) joins(resp *httpget.Response) {
	if resp.Offset > 0 && d.src.origin != d.src.url {
		d.src.joined = true
	}
	d.src.origin = d.src.url
}

// learn takes from the answer of a file's own server which other URLs there are and what digest the
// file has (RFC 6249, RFC 9530, RFC 3230). Of a server that only a server named, neither counts.
func (d *download) learn(resp *httpget.Response) {
	if len(resp.Header) == 0 || d.learned() {
		return
	}
	var part store.Part
	if d.f.Part != nil {
		part = *d.f.Part
	}
	if d.offset() == 0 && resp.Offset == 0 && d.f.Checksum == "" {
		part.Digest = linkheader.Digest(resp.Header)
		switch h := newHash(part.Digest); {
		case h == nil:
		case d.part == nil:
			d.hash = h
		case d.hash == nil || d.hash.Size() != h.Size(): // too late: the part file feeds another
			part.Digest = ""
		}
	}
	// What a server says of other servers counts only if the content can be checked (RFC 6249 7.1).
	if d.f.Checksum != "" || part.Digest != "" {
		for _, u := range linkheader.Duplicates(resp.Header, resp.URL) {
			from, err := url.Parse(d.src.url)
			if err != nil || len(d.src.urls) > bits.MaxMirrors {
				break
			}
			to, err := url.Parse(u)
			if err != nil || to.User != nil || upload.Allowed(from, to) != nil || slices.Contains(d.src.urls, u) {
				continue
			}
			part.Duplicates = append(slices.Clip(part.Duplicates), u)
			d.src.urls = append(d.src.urls, u)
		}
	}
	if d.f.Part != nil || part.Digest != "" || len(part.Duplicates) > 0 {
		d.f.Part = &part
	}
}

// move gets all bytes: from the source in use, and if that fails from the others.
func (d *download) move(ctx context.Context) error {
	for {
		err := d.pull(ctx)
		if err == nil || ctx.Err() != nil || !d.next(err) {
			return d.tell(err)
		}
	}
}

// next turns to another source after one failed. It reports false if there is none left, or if
// another one would not help.
func (d *download) next(err error) bool {
	var e *bits.Error
	if errors.Is(err, errNotAlone) || !errors.As(err, &e) || e.Context != bits.ContextRemoteFile && e.Context != bits.ContextGeneralTransport {
		return false
	}
	s := &d.src
	if len(s.urls) == 1 {
		return false
	}
	s.failed[s.url] = err
	if errors.Is(err, errOther) {
		if s.other == "" {
			s.other = s.url
		}
	} else {
		d.health.fails(s.url, time.Now())
	}
	old := s.url
	now := time.Now()
	ailing := ""
	for i, u := range s.urls {
		if _, tried := s.failed[u]; tried || i >= s.given && d.expected() == "" {
			continue
		}
		if !d.health.ails(u, now) {
			return d.turn(old, u, e)
		}
		if ailing == "" {
			ailing = u
		}
	}
	switch {
	case ailing != "":
		return d.turn(old, ailing, e)
	case s.other != "" && !s.forced:
		s.forced = true
		return d.turn(old, s.other, e)
	}
	return false
}

// turn takes another source into use.
func (d *download) turn(old, u string, why *bits.Error) bool {
	d.src.url = u
	d.restarts = 0
	d.elsewhere()
	if d.f.Part == nil {
		d.f.Part = &store.Part{}
	}
	part := *d.f.Part
	part.Note = fmt.Sprintf("%s failed (%s); it comes from %s instead", hostOf(old), why.Sentence(), hostOf(u))
	d.f.Part = &part
	return true
}

// tell returns the error for the job when no source is left: one that may pass, if there is one.
func (d *download) tell(err error) error {
	if err == nil || len(d.src.failed) < 2 {
		return err
	}
	for _, u := range d.src.urls {
		e := d.src.failed[u]
		var known *bits.Error
		if errors.As(e, &known) && known.Code.Class() != bits.Fatal && !errors.Is(e, errOther) {
			return e
		}
	}
	if e := d.src.failed[d.f.Remote]; e != nil && !errors.Is(e, errOther) {
		return e
	}
	return err
}

// retryElsewhere reports whether a file whose content was not what was expected is fetched again at
// once: from one source alone if it had come from several, else from another one.
func (d *download) retryElsewhere(err error) bool {
	d.src.origin = d.f.Remote
	if d.src.joined && !d.src.single {
		// Which of them has other bytes is not known: each gets another chance, the best one first.
		d.src.single, d.src.joined = true, false
		d.src.failed, d.src.url = map[string]error{}, d.src.urls[0]
		d.elsewhere()
		return true
	}
	d.src.joined = false
	return d.next(err)
}

// errHere says that the file in its place is as new as the source's.
var errHere = errors.New("the file is here already")

// here reports whether the file in its place is as new as the one that an answer brings, and of the
// same size, where the job's owner wants it to be fetched only if it is newer.
func (d *download) here(resp *httpget.Response) bool {
	wanted := d.job.OnlyIfNewer || d.f.Extra != nil && d.f.Extra.OnlyIfNewer
	if !wanted || resp.Modified.IsZero() || resp.Validator.Size < 0 || d.offset() > 0 {
		return false
	}
	f, err := d.job.Owner.Open(d.f.Local)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular() && info.Size() == resp.Validator.Size && !resp.Modified.After(info.ModTime())
}

// skip ends a file that need not be fetched.
func (d *download) skip() {
	d.f.State, d.f.Part = store.FileSkipped, &store.Part{Note: "not fetched: the file in its place is as new as the source's", Headers: d.answer.text()}
	f := d.f
	d.sink.File(d.index, &f)
}

// drop ends a file that is not wanted any more before its turn came.
func (r *run) drop(index int, f *store.File, alone bool) error {
	if alone {
		r.feed.unclaim(false)
	}
	if f.State != store.FileRemoved || r.job.HighPerformance {
		return nil
	}
	if err := r.job.Owner.Remove(PartName(f.Local, r.job.ID, index)); err != nil {
		return localfile.Err(err, f.Local)
	}
	return nil
}
