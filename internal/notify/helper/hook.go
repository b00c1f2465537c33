package helper

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// post sends a web hook. The server takes it with any status from 200 to 299. Redirects are not
// followed: where the hook goes is what the owner of the job said, and an administrator allowed.
// Nothing of the answer but its status is told.
func post(h *Hook) error {
	ctx, cancel := context.WithTimeout(context.Background(), h.Timeout)
	defer cancel()
	for _, e := range h.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			_ = os.Setenv(name, value)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URL, strings.NewReader(h.Body))
	if err != nil {
		return errors.New("the URL of the web hook is malformed")
	}
	for name, value := range h.Header {
		req.Header.Set(name, value)
	}
	c := http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: h.Timeout, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	began := time.Now()
	resp, err := c.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the web hook's server did not answer within %s", h.Timeout)
		}
		var inURL *url.Error
		if errors.As(err, &inURL) {
			err = inURL.Err // without the URL, which may have a token in it
		}
		return fmt.Errorf("the web hook's server cannot be reached: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the web hook's server answered %d after %s", resp.StatusCode, time.Since(began).Round(time.Millisecond))
	}
	return nil
}
