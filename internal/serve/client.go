package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/files"
)

// ErrNoServer means that no server answers on a socket.
var ErrNoServer = errors.New("no ebb serve is running")

// Client speaks with the admin API of a server.
type Client struct{ http *http.Client }

// NewClient returns a client for the server with that admin socket.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", socket)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoServer, err)
		}
		return c, nil
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Answers reports whether a server answers on a socket.
func Answers(socket string) bool {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// do makes a call. An error of the server is a *Problem.
func (c *Client) do(ctx context.Context, method, path string, body, answer any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://serve"+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		p := new(Problem)
		if err := json.NewDecoder(resp.Body).Decode(p); err != nil || p.Detail == "" {
			return problemf(resp.StatusCode, "the server answered %s", resp.Status)
		}
		return p
	}
	return json.NewDecoder(resp.Body).Decode(answer)
}

// Groups returns the groups in service.
func (c *Client) Groups(ctx context.Context) (list []Described, err error) {
	return list, c.do(ctx, http.MethodGet, "/v1/groups", nil, &list)
}

// CreateGroup makes a group.
func (c *Client) CreateGroup(ctx context.Context, g Group) (made Made, err error) {
	if err := g.check(); err != nil { // what is no name could be another path of the API
		return made, problemf(http.StatusBadRequest, "%s", err)
	}
	return made, c.do(ctx, http.MethodPut, "/v1/groups/"+url.PathEscape(g.Name), g, &made)
}

// groupName returns the name of a group that may be given as its path.
func groupName(text string) (string, error) {
	name := strings.Trim(text, "/")
	if checkGroupName(name) != nil {
		return "", problemf(http.StatusBadRequest,
			"%q is not the name of a group that was made at run time, such as \"images\"; those of the configuration file are changed there", text)
	}
	return name, nil
}

// DeleteGroup deletes a group that was made at run time; its files stay where they are.
func (c *Client) DeleteGroup(ctx context.Context, name string) error {
	name, err := groupName(name)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodDelete, "/v1/groups/"+url.PathEscape(name), nil, &struct{}{})
}

// AddFile lists a file in a group, in the place of one of the same name.
func (c *Client) AddFile(ctx context.Context, group, name string, f File) (made Made, err error) {
	if group, err = groupName(group); err != nil {
		return made, err
	}
	if err := files.CheckName(name); err != nil {
		return made, problemf(http.StatusBadRequest, "%s", err)
	}
	return made, c.do(ctx, http.MethodPut, "/v1/groups/"+url.PathEscape(group)+"/files/"+(&url.URL{Path: name}).EscapedPath(), f, &made)
}

// RemoveFile takes a file out of a group's list.
func (c *Client) RemoveFile(ctx context.Context, group, name string) error {
	group, err := groupName(group)
	if err != nil {
		return err
	}
	if err := files.CheckName(name); err != nil {
		return problemf(http.StatusBadRequest, "%s", err)
	}
	return c.do(ctx, http.MethodDelete, "/v1/groups/"+url.PathEscape(group)+"/files/"+(&url.URL{Path: name}).EscapedPath(), nil, &struct{}{})
}

// Uploads returns the upload sessions that are kept.
func (c *Client) Uploads(ctx context.Context) (list []Upload, err error) {
	return list, c.do(ctx, http.MethodGet, "/v1/uploads", nil, &list)
}

// Cleanup removes upload sessions that nobody went on with for too long.
func (c *Client) Cleanup(ctx context.Context) (done Cleaned, err error) {
	return done, c.do(ctx, http.MethodPost, "/v1/cleanup", nil, &done)
}
