package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/ebbtransfer/ebb/bits"
)

// Peers returns what the service has to do with peers. The peers themselves are shown to administrators
// only.
func (m *Manager) Peers(ctx context.Context) (*bits.PeerStatus, error) {
	var s bits.PeerStatus
	return &s, m.call(ctx, "GET", "/v1/peers", nil, &s)
}

// Cache describes the cache of peers.
func (m *Manager) Cache(ctx context.Context) (*bits.CacheInfo, error) {
	var c bits.CacheInfo
	return &c, m.call(ctx, "GET", "/v1/cache", nil, &c)
}

// ListCache returns what is in the cache of peers, in the order of the ids. It is for administrators, as
// are the calls below; while peer caching is off their error is bits.PeerCachingDisabled.
func (m *Manager) ListCache(ctx context.Context) ([]bits.CacheEntry, error) {
	var l []bits.CacheEntry
	err := m.call(ctx, "GET", "/v1/cache/segments", nil, &l)
	return l, err
}

// ClearCache removes all that is in the cache of peers, also what is left of one while peer caching is off.
func (m *Manager) ClearCache(ctx context.Context) error {
	return m.discard(ctx, "DELETE", "/v1/cache")
}

// DeleteCacheEntry removes a segment from the cache of peers: the one with the id, or the only one whose
// id begins so, with four digits at least.
func (m *Manager) DeleteCacheEntry(ctx context.Context, id string) error {
	return m.discard(ctx, "DELETE", "/v1/cache/segments/"+url.PathEscape(id))
}

// discard makes a call whose answer has no content.
func (m *Manager) discard(ctx context.Context, method, path string) error {
	resp, err := m.do(ctx, method, path, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ExportCache writes segments of the cache of peers into an archive: those with the ids, or all. Who has the
// archive has their contents, and the secrets by which peers give them.
func (m *Manager) ExportCache(ctx context.Context, to io.Writer, ids ...string) error {
	resp, err := m.do(ctx, "GET", "/v1/cache/export?"+url.Values{"id": ids}.Encode(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(to, resp.Body); err != nil {
		return fmt.Errorf("export the cache: %w", err)
	}
	return nil
}

// ImportCache puts what is in an archive into the cache of peers. What is not what it says is left out.
func (m *Manager) ImportCache(ctx context.Context, from io.Reader) (*bits.CacheCopied, error) {
	req, err := http.NewRequestWithContext(ctx, "POST", "http://ebb/v1/cache/import", io.NopCloser(from))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := m.roundTrip(req)
	if m.away != nil && errors.Is(err, ErrNoService) { // nothing was read of the archive
		if err = m.away(ctx, err); err == nil {
			resp, err = m.roundTrip(req)
		}
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= 400 {
		return nil, problem(resp)
	}
	var c bits.CacheCopied
	if err := json.NewDecoder(resp.Body).Decode(&c); err != nil {
		return nil, fmt.Errorf("read the answer to POST /v1/cache/import: %w", err)
	}
	return &c, nil
}
