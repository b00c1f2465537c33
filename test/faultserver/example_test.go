package faultserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/ebbtransfer/ebb/test/faultserver"
)

// A client loses its connection in the middle of a file, comes back too early and then resumes.
func Example() {
	srv, err := faultserver.Start(faultserver.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()
	f := srv.File("/big", faultserver.File{Seed: 1, Size: 1 << 20, ETag: `"v1"`})
	f.Script(
		faultserver.Program{Cut: faultserver.Cut{How: faultserver.Close, After: 700_000}},
		faultserver.Program{Status: http.StatusServiceUnavailable, RetryAfter: "1"},
	)
	f.Set(func(p *faultserver.Program) { p.Rate = 100 << 20 })

	get := func(from int) {
		req, _ := http.NewRequest(http.MethodGet, f.URL(), nil)
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
		req.Header.Set("If-Range", `"v1"`)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer func() { _ = resp.Body.Close() }()
		n, err := io.Copy(io.Discard, resp.Body)
		fmt.Println(resp.StatusCode, n, "bytes, short:", errors.Is(err, io.ErrUnexpectedEOF))
	}
	get(0)
	get(650_000)
	get(650_000)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := srv.Await(ctx, srv.Idle); err != nil {
		fmt.Println(err)
	}
	fmt.Println("sent again:", srv.Refetched("/big"))
	// Output:
	// 206 700000 bytes, short: true
	// 503 20 bytes, short: false
	// 206 398576 bytes, short: false
	// sent again: 50000
}
