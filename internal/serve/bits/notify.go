package bits

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/bupwire"
	"github.com/ebbtransfer/ebb/internal/serve/record"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// maxNotifyURL is how many characters a notification URL may have with the upload's query
// (server.md 1.11).
const maxNotifyURL = 2200

// The names of the headers between server and application, spelled as IIS does.
const (
	hdrOriginalURL  = "BITS-Original-Request-URL"
	hdrRequestFile  = "BITS-Request-DataFile-Name"
	hdrResponseFile = "BITS-Response-DataFile-Name"
	hdrStaticURL    = "BITS-Static-Response-URL"
	hdrCopyFile     = "BITS-Copy-File-To-Destination"
)

// errStill: the application stood still for too long.
var errStill = errors.New("the application did not answer in time")

// application talks to the applications at notification URLs. It does not follow redirects, since
// where they lead is not what the administrator wrote, and does not keep connections: one that the
// application has closed meanwhile would look like a failure of the application.
var application = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// deliver has the application take the upload. It returns what is to be kept of it, and the answer to
// the client if the application does not take it. The application may see an upload twice, if the
// server is killed before it could note its answer.
func (h *handler) deliver(ctx context.Context, r *http.Request, s session.Session) (state, *bupwire.Ack, error) {
	target, host, err := h.notifyURL(r)
	if err != nil {
		return state{}, nil, err
	}
	if len(target.String()) > maxNotifyURL {
		a := refuse(http.StatusBadRequest, bits.InvalidArg)
		return state{}, &a, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), http.NoBody)
	if err != nil {
		return state{}, nil, err
	}
	req.Host = host
	req.Header = http.Header{
		"Accept":       {"*/*"},
		"User-Agent":   {"BITSExts 1.5 (Ebb)"},
		hdrOriginalURL: {h.publicURL(r) + r.URL.RequestURI()},
	}
	p := &patience{timeout: h.p.NotifyTimeout}
	files, err := h.attach(ctx, req, s, p)
	if err != nil {
		return state{}, nil, err
	}
	defer files.remove()

	// Before the application is asked: it should not be asked in vain.
	reply, err := h.newReply(ctx, s.Info().Principal)
	if err != nil {
		_ = req.Body.Close() // nobody reads it
		return state{}, nil, err
	}
	defer reply.end(h)

	p.timer = time.AfterFunc(p.timeout, func() { cancel(errStill) })
	defer p.timer.Stop()
	resp, err := application.Do(req)
	if err != nil {
		return unreachable(ctx, target, err)
	}
	defer resp.Body.Close()
	p.progress()
	if resp.StatusCode/100 != 2 {
		record.Why(ctx, "the application %s answered %d", withoutQuery(target), resp.StatusCode)
		a := refusedByApplication(resp.StatusCode)
		return state{Refused: resp.StatusCode == http.StatusForbidden}, &a, nil
	}
	_, copied := resp.Header[http.CanonicalHeaderKey(hdrCopyFile)]
	st := state{Delivered: true, Copy: copied, ReplyURL: resp.Header.Get(hdrStaticURL)}
	if len(st.ReplyURL) > bupwire.MaxReplyURL {
		a := refuse(http.StatusBadRequest, bits.InvalidArg)
		return state{}, &a, nil
	}
	if st.ReplyURL != "" {
		return st, nil, nil
	}
	body := &progressReader{resp.Body, p, nil}
	if h.p.Notify == session.NotifyByReference {
		f, err := files.openReply()
		if err != nil {
			return state{}, nil, err
		}
		defer f.Close()
		body.r = f
	}
	st.Reply, err = reply.fill(body)
	if body.err != nil {
		return unreachable(ctx, target, body.err)
	}
	return st, nil, err
}

// refusedByApplication is the answer where the application answered with status. The client goes by the
// classes of server.md 1.9, but a status that it takes for one about the request itself, and acts
// on, becomes another one of the same class: 416 would even look like a success to it.
func refusedByApplication(status int) bupwire.Ack {
	code := bits.HTTPStatus(status)
	switch status {
	case http.StatusUnauthorized, http.StatusProxyAuthRequired, http.StatusRequestEntityTooLarge, http.StatusRequestedRangeNotSatisfiable:
		status = http.StatusBadRequest
	}
	if status < 300 || status > 599 {
		status = http.StatusBadGateway
	}
	return bupwire.Ack{Status: status, Received: -1, Code: code, Context: bits.ContextRemoteApplication}
}

// unreachable is the answer where the application gave none.
func unreachable(ctx context.Context, target *url.URL, err error) (state, *bupwire.Ack, error) {
	var at *url.Error // which tells the URL
	if errors.As(err, &at) {
		err = at.Err
	}
	record.Why(ctx, "the application %s does not answer: %v", withoutQuery(target), cmp.Or(context.Cause(ctx), err))
	a := bupwire.Ack{Status: http.StatusBadGateway, Received: -1, Code: bits.CannotConnect, Context: bits.ContextRemoteApplication}
	if errors.Is(context.Cause(ctx), errStill) {
		a.Status, a.Code = http.StatusRequestTimeout, bits.TimedOut
	}
	return state{}, &a, nil
}

// withoutQuery is a notification URL as it is logged: the query is the client's too, and can hold what
// signs a request.
func withoutQuery(u *url.URL) string {
	plain := *u
	plain.RawQuery = ""
	return plain.Redacted()
}

// notifyURL returns the notification URL for an upload: with its query, and if it is relative, as seen
// from the directory of the upload's URL. The client chooses the Host header, so that it must not
// decide whom the server talks to: that is then the server itself, with the client's idea of its
// name as host.
func (h *handler) notifyURL(r *http.Request) (u *url.URL, host string, err error) {
	if u, err = url.Parse(h.p.NotifyURL); err != nil {
		return nil, "", fmt.Errorf("notification URL: %w", err)
	}
	if u.Host == "" {
		base := &url.URL{Scheme: "http", Path: r.URL.Path}
		switch local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); {
		case h.p.PublicURL != "":
			public, err := url.Parse(h.p.PublicURL)
			if err != nil {
				return nil, "", fmt.Errorf("public URL: %w", err)
			}
			base.Scheme, base.Host = public.Scheme, public.Host
		case r.TLS == nil && ok:
			base.Host, host = local.String(), r.Host
		default:
			return nil, "", errors.New("the notification URL is relative, and over TLS it needs a public URL to begin with")
		}
		u = base.ResolveReference(u)
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return nil, "", fmt.Errorf("notification URL %s is neither http nor https", u.Redacted())
	}
	switch query := r.URL.RawQuery; {
	case query == "":
	case u.RawQuery == "":
		u.RawQuery = query
	default:
		u.RawQuery += "&" + query
	}
	return u, host, nil
}

// patience ends a call after a while in which nothing moved: it covers sending, waiting and
// receiving alike ([MC-BUP] 3.3.2).
type patience struct {
	timeout time.Duration
	timer   *time.Timer
}

func (p *patience) progress() { p.timer.Reset(p.timeout) }

// progressReader is bytes that keep up patience, and remembers why reading them failed.
type progressReader struct {
	r   io.Reader
	p   *patience
	err error
}

func (r *progressReader) Read(b []byte) (int, error) {
	n, err := r.r.Read(b)
	if n > 0 {
		r.p.progress()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// notifyFiles are the files that an application gets the names of, in directories of their own for
// each call, named as IIS does it. The application may run as another user than the server, so
// everyone may write the reply who knows the way: the directories above cannot be listed, and the
// name is made for the call. It is not the session's id, which the uploader knows too: he could put
// a link there, for the application to write through.
type notifyFiles struct {
	root *os.Root // nil: there are none
	guid string
}

const (
	requestsDir = session.BITSSessions + "/Requests/"
	requestName = "/requestfile.bin"
)

// attach gives the request the upload, by value or by reference.
func (h *handler) attach(ctx context.Context, req *http.Request, s session.Session, p *patience) (*notifyFiles, error) {
	if h.p.Notify == session.NotifyByReference {
		return h.attachFiles(ctx, req, s)
	}
	if s.Info().Size == 0 {
		return &notifyFiles{}, nil // with NoBody, which makes net/http send Content-Length: 0
	}
	f, err := s.Open(ctx)
	if err != nil {
		return nil, err
	}
	req.ContentLength = s.Info().Size
	req.Body = struct {
		io.Reader
		io.Closer
	}{&progressReader{f, p, nil}, f}
	return &notifyFiles{}, nil
}

func (h *handler) attachFiles(ctx context.Context, req *http.Request, s session.Session) (_ *notifyFiles, err error) {
	f := &notifyFiles{guid: session.GUID(session.NewID())}
	defer func() {
		if err != nil {
			f.remove()
		}
	}()
	if h.p.Root == "" { // the configuration refuses it
		return nil, errors.New("there are no files to tell the application of: the storage is a bucket")
	}
	dir, err := filepath.Abs(h.p.Root)
	if err != nil {
		return nil, err
	}
	if f.root, err = os.OpenRoot(dir); err != nil {
		return nil, err
	}
	h.clearNotifyFiles() // those that were too young when the server started
	for _, d := range []struct {
		name string
		mode fs.FileMode
		own  bool // nobody may have made it before
	}{
		{session.BITSSessions, 0o711, false}, {requestsDir[:len(requestsDir)-1], 0o711, false}, {repliesDir[:len(repliesDir)-1], 0o711, false},
		{requestsDir + f.guid, 0o755, true}, {repliesDir + f.guid, fs.ModeSticky | 0o777, true},
	} {
		if err := f.root.Mkdir(d.name, d.mode.Perm()); err != nil && (d.own || !errors.Is(err, fs.ErrExist)) {
			return nil, err
		}
		if err := f.root.Chmod(d.name, d.mode); err != nil { // whatever the umask
			return nil, err
		}
	}
	if err := f.putRequest(ctx, s); err != nil {
		return nil, err
	}
	req.Header[hdrRequestFile] = []string{filepath.Join(dir, filepath.FromSlash(requestsDir+f.guid+requestName))}
	req.Header[hdrResponseFile] = []string{filepath.Join(dir, filepath.FromSlash(repliesDir+f.guid+replyName))}
	return f, nil
}

// putRequest makes the file with the upload: the store's own under a second name, where the store has
// files, or a copy.
func (f *notifyFiles) putRequest(ctx context.Context, s session.Session) error {
	name := requestsDir + f.guid + requestName
	// Not every store has files.
	if local, ok := s.(interface{ Link(name string) error }); ok && local.Link(name) == nil {
		return nil
	}
	from, err := s.Open(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := f.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	return errors.Join(err, to.Close())
}

// openReply opens what the application wrote; it is empty if that was nothing. The application
// may be less trusted than the server: a link out of the root is not followed, and what is no file
// not opened.
func (f *notifyFiles) openReply() (io.ReadCloser, error) {
	name := repliesDir + f.guid + replyName
	st, err := f.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return http.NoBody, nil
	}
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("the application's reply %s is not a file", name)
	}
	// Should it have become a pipe just now, nobody waits for who writes to it.
	r, err := f.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if opened, err := r.Stat(); err != nil || !os.SameFile(st, opened) {
		r.Close()
		return nil, fmt.Errorf("the application's reply %s changed while it was opened", name)
	}
	return r, nil
}

func (f *notifyFiles) clear() {
	_ = f.root.RemoveAll(requestsDir + f.guid) // what stays is found by clearNotifyFiles
	_ = f.root.RemoveAll(repliesDir + f.guid)
}

func (f *notifyFiles) remove() {
	if f.root != nil {
		f.clear()
		f.root.Close()
	}
}

// clearNotifyFiles removes the files for applications that a killed server left: those from before
// this one. An application may still read younger ones.
func (h *handler) clearNotifyFiles() {
	if h.p.Root == "" || h.p.Notify != session.NotifyByReference {
		return
	}
	root, err := os.OpenRoot(h.p.Root)
	if err != nil {
		return // the store says so
	}
	defer root.Close()
	for _, dir := range []string{requestsDir, repliesDir} {
		entries, _ := fs.ReadDir(root.FS(), dir[:len(dir)-1]) // mostly there is no such directory
		for _, e := range entries {
			if _, ours := session.ParseGUID(e.Name()); !ours {
				continue
			}
			if st, err := e.Info(); err == nil && st.ModTime().Before(h.began) && time.Since(st.ModTime()) > 2*h.p.NotifyTimeout {
				_ = root.RemoveAll(dir + e.Name())
			}
		}
	}
}
