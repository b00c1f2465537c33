package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of the servers. What comes from or goes to a port of the background is background.
const (
	httpPort  = 8080
	httpsPort = 8443 // HTTP/1.1 over TLS
	h2Port    = 8444
	bitsPort  = 8445 // of ebb serve

	foregroundPort = 9080 // HTTP and, by UDP, voice
)

// serve is the program of a server. Every path /file/... is a file of --size bytes; /bytes/N has N
// bytes, and what is sent to /sink/... is thrown away.
func serve(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	size := flags.Int64("size", 1<<30, "")
	cert := flags.String("cert", "", "")
	key := flags.String("key", "", "")
	control := flags.String("congestion", cubic, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /file/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"lab"`)
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Unix(1e9, 0), io.NewSectionReader(zeros{}, 0, *size))
	})
	mux.HandleFunc("GET /bytes/{n}", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(zeros{}, 0, n))
	})
	sink := func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10))
	}
	mux.HandleFunc("POST /sink", sink)
	mux.HandleFunc("PUT /sink/", sink)

	failed := make(chan error)
	for port, protocols := range map[int][]string{httpPort: nil, foregroundPort: nil, httpsPort: {"http/1.1"}, h2Port: {"h2", "http/1.1"}} {
		l, err := listen(ctx, port, *control)
		if err != nil {
			return err
		}
		srv := &http.Server{Handler: mux, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: protocols}}
		if len(protocols) == 1 {
			srv.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // no HTTP/2
		}
		go func() {
			if protocols == nil {
				failed <- srv.Serve(l)
			} else {
				failed <- srv.ServeTLS(l, "", "")
			}
		}()
	}
	go func() { failed <- serveVoice() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// listen listens on a port; connections use a congestion control. A namespace has no default of its
// own unless the machine allows that control to everybody.
func listen(ctx context.Context, port int, control string) (net.Listener, error) {
	c := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error { return setCongestion(conn, control) }}
	c.SetMultipathTCP(false)
	return c.Listen(ctx, "tcp4", fmt.Sprintf(":%d", port))
}

// setCongestion sets the congestion control of what a socket sends.
func setCongestion(conn syscall.RawConn, control string) error {
	var set error
	err := conn.Control(func(fd uintptr) {
		set = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, control)
	})
	return errors.Join(err, os.NewSyscallError("setsockopt TCP_CONGESTION "+control, set))
}

// zeros is endless and easy to make.
type zeros struct{}

func (zeros) ReadAt(b []byte, _ int64) (int, error) {
	clear(b)
	return len(b), nil
}
