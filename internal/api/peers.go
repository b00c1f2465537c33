package api

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist/cache"
	"github.com/ebbtransfer/ebb/internal/peers"
)

// registerPeers registers what is about peer caching. It is turned on and off, and its limits are set, with
// the configuration; here is what it does, and what it has.
func (s *server) registerPeers(a huma.API) {
	huma.Register(a, huma.Operation{OperationID: "getPeers", Method: "GET", Path: "/v1/peers", Summary: "Show what the service has to do with peers; the peers themselves are for administrators"},
		func(ctx context.Context, _ *struct{}) (*Body[bits.PeerStatus], error) {
			return &Body[bits.PeerStatus]{s.peerStatus(callerOf(ctx).Admin())}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "getCache", Method: "GET", Path: "/v1/cache", Summary: "Show how large the cache of peers is and may be", Errors: []int{500}},
		func(ctx context.Context, _ *struct{}) (*Body[bits.CacheInfo], error) {
			info, err := s.cacheInfo(callerOf(ctx).Admin())
			return reply(info, err)
		})
	huma.Register(a, huma.Operation{OperationID: "clearCache", Method: "DELETE", Path: "/v1/cache", Summary: "Remove all that is in the cache of peers, also what is left of one while peer caching is off; for administrators", DefaultStatus: http.StatusNoContent, Errors: []int{403, 500}},
		func(ctx context.Context, _ *struct{}) (*struct{}, error) {
			if err := s.cacheAdmin(ctx); err != nil {
				return nil, answer(err)
			}
			if err := s.peers.Clear(); err != nil {
				return nil, answer(err)
			}
			return nil, nil
		})
	type segment struct {
		ID string `path:"id" doc:"A segment's public id, or how it begins: at least four digits" maxLength:"128"`
	}
	huma.Register(a, huma.Operation{OperationID: "deleteCacheEntry", Method: "DELETE", Path: "/v1/cache/segments/{id}", Summary: "Remove a segment from the cache of peers; for administrators", DefaultStatus: http.StatusNoContent, Errors: []int{403, 404, 409, 500}},
		func(ctx context.Context, in *segment) (*struct{}, error) {
			c, err := s.openCache(ctx)
			if err != nil {
				return nil, answer(err)
			}
			id, err := findSegment(c, in.ID)
			if err == nil {
				err = c.Delete(id)
			}
			if err != nil {
				return nil, answer(err)
			}
			return nil, nil
		})
	huma.Register(a, huma.Operation{OperationID: "listCache", Method: "GET", Path: "/v1/cache/segments", Summary: "List what is in the cache of peers, in the order of the ids; for administrators", Errors: []int{403, 409},
		Responses: map[string]*huma.Response{"200": {Description: "The segments", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[[]bits.CacheEntry](a)}}}}},
		func(_ context.Context, _ *struct{}) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: s.listCache}, nil
		})
	archive := map[string]*huma.MediaType{"application/x-tar": {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}
	type wanted struct {
		ID []string `query:"id,explode" doc:"Only these segments; all otherwise"`
	}
	huma.Register(a, huma.Operation{OperationID: "exportCache", Method: "GET", Path: "/v1/cache/export", Summary: "Export the cache of peers as a tar archive, with the contents and the secrets of its segments; for administrators", Errors: []int{403, 404, 409},
		Responses: map[string]*huma.Response{"200": {Description: "The archive; one that breaks off has no end mark", Content: archive}}},
		func(_ context.Context, in *wanted) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: func(hc huma.Context) { s.exportCache(hc, in.ID) }}, nil
		})
	huma.Register(a, huma.Operation{OperationID: "importCache", Method: "POST", Path: "/v1/cache/import", Summary: "Put the segments of an exported archive into the cache of peers, those that are what they say; for administrators", Errors: []int{403, 409, 422},
		Responses: map[string]*huma.Response{"200": {Description: "What was imported", Content: map[string]*huma.MediaType{"application/json": {Schema: schemaOf[bits.CacheCopied](a)}}}}},
		func(_ context.Context, _ *struct{}) (*huma.StreamResponse, error) {
			return &huma.StreamResponse{Body: s.importCache}, nil
		})
	a.OpenAPI().Paths["/v1/cache/import"].Post.RequestBody = &huma.RequestBody{Required: true, Content: archive} // huma would read it otherwise
}

// peerStatus describes the node. Who its peers are, and what is wrong with its directory, is not everybody's
// business.
func (s *server) peerStatus(admin bool) bits.PeerStatus {
	st := s.peers.Status()
	set := st.Settings
	out := bits.PeerStatus{
		Mode: set.Mode.String(), Fetch: set.Mode != peers.Off && !set.ServeOnly, Port: int(set.Port), Serving: []string{}, NotServing: st.WhyNot, Networks: []bits.PeerNetwork{},
		HostedCaches: append([]string{}, set.HostedCaches...), PlainHTTP: set.PlainHTTP, ServeOnBattery: set.ServeOnBattery, Version1Only: set.Version1Only,
		DigestMode: set.DigestMode, Problem: st.Problem, Stats: bits.PeerStats(st.Stats),
	}
	for _, at := range st.Serving {
		out.Serving = append(out.Serving, at.String())
	}
	for _, n := range st.Networks {
		var addrs []string
		for _, p := range n.Addresses {
			addrs = append(addrs, p.String())
		}
		out.Networks = append(out.Networks, bits.PeerNetwork{Interface: n.Interface, Addresses: addrs})
	}
	if !admin {
		if out.Problem != "" {
			out.Problem = "not all of it works; an administrator sees why"
		}
		return out
	}
	for _, p := range st.Peers {
		out.Peers = append(out.Peers, bits.Peer{Address: p.Address.String(), Hosted: p.Hosted, Bytes: p.Fetched, Used: p.Used.UTC(), Avoided: p.Banned, Lied: p.Lied})
	}
	return out
}

func (s *server) cacheInfo(admin bool) (bits.CacheInfo, error) {
	p := s.policy.Policy().Peers
	out := bits.CacheInfo{Size: p.CacheSize.String(), MaxAge: p.MaxAge.String(), Left: s.peers.Left()}
	if admin {
		out.Directory = s.peers.Dir()
	}
	c := s.peers.Cache()
	if c == nil {
		return out, nil
	}
	var err error
	out.Open, out.Bytes, out.Limit = true, c.Used(), c.Limit()
	out.Segments, err = c.Count()
	return out, err
}

// cacheAdmin refuses who is not an administrator: the cache has what all users downloaded.
func (s *server) cacheAdmin(ctx context.Context) error {
	if callerOf(ctx).Admin() {
		return nil
	}
	return bits.Errorf(bits.AccessDenied, "only an administrator deals with the cache of peers, which has what all users downloaded")
}

// openCache returns the cache to an administrator.
func (s *server) openCache(ctx context.Context) (*cache.Cache, error) {
	if err := s.cacheAdmin(ctx); err != nil {
		return nil, err
	}
	if c := s.peers.Cache(); c != nil {
		return c, nil
	}
	return nil, &bits.Error{Code: bits.PeerCachingDisabled}
}

func findSegment(c *cache.Cache, prefix string) ([]byte, error) {
	id, err := c.Find(prefix)
	switch {
	case errors.Is(err, cache.ErrNotHeld):
		return nil, bits.Errorf(bits.NotFound, "the cache has no segment whose id is, or begins with, %q", prefix)
	case errors.Is(err, cache.ErrAmbiguous):
		return nil, bits.Errorf(bits.InvalidArg, "the cache has several segments whose id begins with %q", prefix)
	}
	return id, err
}

// listCache streams the list: a cache may have a million segments.
func (s *server) listCache(hc huma.Context) {
	c, err := s.openCache(hc.Context())
	if err != nil {
		fail(hc, err)
		return
	}
	hc.SetHeader("Content-Type", "application/json")
	w := bufio.NewWriterSize(hc.BodyWriter(), 64<<10)
	sep := "["
	_ = c.Walk(func(e cache.Entry) error { // what fails breaks the list off
		doc, err := json.Marshal(bits.CacheEntry{ID: hex.EncodeToString(e.ID), Length: e.Length, Held: e.Held, Created: e.Created.UTC(), Used: e.Used.UTC()})
		if err != nil {
			return err
		}
		_, _ = w.WriteString(sep)
		sep = ","
		_, _ = w.Write(doc)
		return w.WriteByte('\n')
	})
	if sep == "[" {
		_, _ = w.WriteString(sep)
	}
	_, _ = w.WriteString("]\n")
	_ = w.Flush()
}

func (s *server) exportCache(hc huma.Context, prefixes []string) {
	c, err := s.openCache(hc.Context())
	var ids [][]byte
	for _, p := range prefixes {
		if err != nil {
			break
		}
		var id []byte
		id, err = findSegment(c, p)
		ids = append(ids, id)
	}
	if err != nil {
		fail(hc, err)
		return
	}
	hc.SetHeader("Content-Type", "application/x-tar")
	if _, err := c.Export(hc.Context(), hc.BodyWriter(), ids); err != nil {
		panic(http.ErrAbortHandler) // so that the client does not take what it has for the whole
	}
}

func (s *server) importCache(hc huma.Context) {
	c, err := s.openCache(hc.Context())
	if err != nil {
		fail(hc, err)
		return
	}
	r, _ := humago.Unwrap(hc)
	done, err := c.Import(hc.Context(), r.Body)
	switch {
	case errors.Is(err, cache.ErrFormat):
		err = bits.Errorf(bits.InvalidArg, "%v", err)
	case errors.Is(err, cache.ErrFull):
		err = bits.Errorf(bits.TooLarge, "the archive has more than the cache may have; %d bytes of it were imported", done.Bytes)
	}
	if err != nil {
		_, _ = io.Copy(io.Discard, r.Body) // a client may look for an answer only when all is sent
		fail(hc, err)
		return
	}
	hc.SetHeader("Content-Type", "application/json")
	_ = json.NewEncoder(hc.BodyWriter()).Encode(bits.CacheCopied(done))
}
