package transfer

import (
	"context"
	"errors"
	"net/netip"
	"net/url"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/peerdist/pccrtp"
	"github.com/ebbtransfer/ebb/internal/peers"
	"github.com/ebbtransfer/ebb/internal/store"
	"github.com/ebbtransfer/ebb/internal/transfer/fileget"
	"github.com/ebbtransfer/ebb/internal/transfer/httpconn"
	"github.com/ebbtransfer/ebb/internal/transfer/httpget"
)

// UsePeers has files fetched from peers too, as far as their origins describe them and the node wants it.
// What peers give is held to g's ceilings where the node's settings say so. It is called before the first Run.
func (e *Engine) UsePeers(n *peers.Node, g *governor.Governor) { e.node, e.gov = n, g }

// description is what the origin says of all bytes of a file, or a peer.
type description struct {
	info      *peerdist.Info
	validator httpget.Validator
	modified  time.Time
	// A peer said it in the digest mode: the digest that the file must have, and which peer; none if this machine did.
	digest string
	from   netip.AddrPort
}

var (
	// errDescribed means that the origin has described the file, so that it can come from peers.
	errDescribed = errors.New("the file is described")

	// errAnew means that the file changed on the server, and is to be asked for from the start.
	errAnew = errors.New("the file is another one now")

	// errPlain means that the file has to be fetched without a description of it.
	errPlain = errors.New("the description of the file is of no use")
)

// makeAgain is how long a download goes on before it asks again for the description that the origin was
// about to make; it doubles.
const makeAgain = time.Second

// peerable reports whether a file may come from peers, and its server is to be asked for its description.
func (r *run) peerable(f *store.File) bool {
	if r.node == nil || !r.mayShare(f) {
		return false
	}
	u, err := url.Parse(f.Remote)
	return err == nil && r.node.Wants(u)
}

// mayShare reports whether a file is one that may come from peers: whole, of its own server alone. Parts,
// mirrors and files that are made as they are asked for come from their servers.
func (r *run) mayShare(f *store.File) bool {
	j := &r.job
	if j.NoPeers || j.Type != bits.Download || j.whole() || j.OnDemand || j.OnlyIfNewer || j.HighPerformance || fileget.Is(f.Remote) {
		return false
	}
	if x := f.Extra; x != nil && (len(x.Ranges) > 0 || len(x.Wanted) > 0 || x.Position > 0 || len(x.Mirrors) > 0 || x.OnlyIfNewer || x.Distrusted) {
		return false
	}
	p := f.Part
	return p == nil || p.Source == "" && len(p.Duplicates) == 0
}

// peerDist is what a request for the rest of the file says of its description.
func (d *download) peerDist() httpget.PeerDist {
	switch {
	case d.damaged:
		return httpget.PeerDist{Missing: true}
	case d.plain || d.offset() > 0 || !d.peerable(&d.f):
		return httpget.PeerDist{}
	}
	return d.wantsInfo()
}

// wantsInfo asks for the description.
func (d *download) wantsInfo() httpget.PeerDist {
	version := 2
	if d.node.Settings().Version1Only {
		version = 1
	}
	return httpget.PeerDist{Version: version, Make: d.makes}
}

// described deals with an answer to a request that asked for the description: it returns errDescribed if that
// came, and what is wrong with it otherwise. If the answer is the file it returns nil.
func (d *download) described(ctx context.Context, resp *httpget.Response, under *asked) error {
	if !resp.Info {
		d.makes = resp.Makes
		// Small files and those without a validator have none at servers that have it for others.
		if v := resp.Validator; !resp.Speaks && v.Size >= pccrtp.LeastSize && (v.ETag != "" || v.LastModified != "") {
			d.node.Refused(resp.URL)
			if u, err := url.Parse(d.src.url); err == nil {
				d.node.Refused(u)
			}
		}
		return nil
	}
	d.makes = false
	// A redirect may have led to where nobody proves who answers; and what nobody is to store nobody is to have from us.
	if !d.node.Wants(resp.URL) || resp.NoStore {
		d.damaged = true
		return errRestart
	}
	info, err := resp.ReadInfo(ctx, func() { under.patience.Wait(httpconn.Arrival, d.stallTime()) })
	under.patience.Rest()
	if httpget.ErrInfo(err) {
		d.damaged = true
		return errRestart
	}
	if err != nil {
		return err
	}
	d.moved(resp.Moved)
	d.about = &description{info: info, validator: resp.Validator, modified: resp.Modified}
	return errDescribed
}

// askInfo asks for the description of a file of which bytes are here. It reports whether it came; if not, the
// download goes on as if it had not asked.
func (d *download) askInfo(ctx context.Context) bool {
	ctx, under := d.ask(ctx, d.src.url)
	defer under.end()
	resp, err := d.get(ctx, httpget.Request{URL: d.src.url, Header: d.job.Header, PeerDist: d.wantsInfo(), Class: d.job.Class, Got: under.got, Answered: d.answer.came})
	if err != nil || resp.Body == nil {
		return false
	}
	defer resp.Body.Close()
	return errors.Is(d.described(ctx, resp, under), errDescribed)
}

// describedNow asks again, once in a while, for the description that the origin was about to make. It reports
// whether that is worth more than what is on its way: left bytes.
func (d *download) describedNow(ctx context.Context, left int64) bool {
	if !d.makes || time.Now().Before(d.makesAt) || left >= 0 && left < minRun {
		return false
	}
	d.makesIn = max(makeAgain, 2*d.makesIn)
	ok := d.askInfo(ctx)
	d.makesAt = time.Now().Add(d.makesIn)
	return ok
}

// openDescribed asks for the description of a file of which bytes are here already, and returns errDescribed if
// it comes.
func (d *download) openDescribed(ctx context.Context) error {
	if d.plain || d.f.Part == nil || d.f.Done == 0 || !d.peerable(&d.f) {
		return nil
	}
	d.findSources()
	switch {
	case d.askInfo(ctx):
		return errDescribed
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(d.f.Part.Filled) > 0:
		return errPlain
	}
	return nil
}
