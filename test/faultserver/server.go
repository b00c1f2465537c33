// Package faultserver is a web server for tests that serves files of any size without storing
// them and fails as it is told: it stalls, resets, truncates, lies about lengths and ranges,
// changes a file in the middle, redirects in circles, answers 503, and keeps a log of every byte.
//
// What a path serves is a File; what is wrong with it is a Program, which can be changed at any
// time and per request. A Program that is zero gives correct HTTP. The package knows nothing of
// Ebb and does not import testing, so benchmarks and demos can use it.
package faultserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"

	"github.com/ebbtransfer/ebb/test/internal/loopback"
)

// Protocol is what a server speaks.
type Protocol int

// Protocols. Those with HTTP/2 need TLS, as clients agree on HTTP/2 in its handshake.
const (
	HTTP1 Protocol = iota
	HTTP1And2
	HTTP2Only
)

// Options are what cannot be changed once a server runs. Zero is HTTP/1.1 without TLS on a port
// of the kernel's choice.
type Options struct {
	// TLS is the certificate shown, or NoTLS.
	TLS Certificate
	// HTTP is what the server speaks.
	HTTP Protocol
	// SendBuffer is the socket's send buffer (SO_SNDBUF) in bytes, 0 for the kernel's choice of
	// up to several megabytes. What the log counts has been handed to the kernel and may still be
	// in that buffer or in the client's receive buffer; a small one keeps the first part small.
	// It is also the largest single write, so that the log follows.
	SendBuffer int
	// Port is the TCP port; 0 lets the kernel choose.
	Port int
}

// Server serves files on 127.0.0.1 and, as another host, on 127.0.0.2 at the same port. It keeps
// its files and its log while it is stopped.
type Server struct {
	options Options
	port    *loopback.Port
	tls     *tls.Config
	log     record

	mu      sync.Mutex // guards what follows
	entries map[string]*Entry
	running *run // nil while stopped
	deaf    bool
}

// Start makes a server and starts it. The caller must Close it.
func Start(o Options) (*Server, error) {
	if o.HTTP != HTTP1 && o.TLS == NoTLS {
		return nil, errors.New("start fault server: HTTP/2 needs TLS")
	}
	s := &Server{options: o, entries: map[string]*Entry{}, log: record{used: map[int]bool{}}}
	if o.TLS != NoTLS {
		cert, err := issue(o.TLS)
		if err != nil {
			return nil, fmt.Errorf("start fault server: make its certificate: %w", err)
		}
		s.tls = &tls.Config{Certificates: []tls.Certificate{cert}}
	}
	port, err := loopback.Reserve(o.Port)
	if err != nil {
		return nil, fmt.Errorf("start fault server: %w", err)
	}
	s.port = port
	if err := s.Start(); err != nil {
		port.Close()
		return nil, err
	}
	return s, nil
}

// URL returns the server's address on 127.0.0.1, without a slash at the end.
func (s *Server) URL() string { return s.URLAt("127.0.0.1") }

// URLAt returns the server's address under another name of this machine: localhost or 127.0.0.2.
func (s *Server) URLAt(host string) string {
	scheme := "http"
	if s.tls != nil {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, host, s.port.Number)
}

// SetDeaf decides about the connections that come from now on: a deaf server accepts them and
// neither reads nor answers, not even the TLS handshake, until it is stopped.
func (s *Server) SetDeaf(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = deaf
}

// Start starts a stopped server again, on the same port.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return errors.New("start fault server: it runs")
	}
	r, err := s.listen()
	if err != nil {
		return fmt.Errorf("start fault server: %w", err)
	}
	s.running = r
	return nil
}

// Stop closes the port and all connections, as if the server's process had been killed, and waits
// until no answer is under way. Clients are refused until the next Start.
func (s *Server) Stop() {
	s.mu.Lock()
	r := s.running
	s.running = nil
	s.mu.Unlock()
	if r != nil {
		r.stop()
	}
}

// Close stops the server and gives its port back. Its log can still be read.
func (s *Server) Close() {
	s.Stop()
	s.port.Close()
}

// run is a server's life between Start and Stop.
type run struct {
	http      *http.Server
	listeners []net.Listener
	serving   sync.WaitGroup // the accept loops and the answers under way

	mu    sync.Mutex // guards what follows
	conns map[*conn]bool
	ended bool
}

// listen opens the port and serves it.
func (s *Server) listen() (*run, error) {
	r := &run{conns: map[*conn]bool{}}
	for _, host := range loopback.Hosts {
		ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: host[:], Port: s.port.Number})
		if err != nil {
			for _, open := range r.listeners {
				_ = open.Close()
			}
			return nil, err
		}
		r.listeners = append(r.listeners, &listener{TCPListener: ln, server: s, run: r})
	}
	var protocols http.Protocols
	protocols.SetHTTP1(s.options.HTTP != HTTP2Only)
	protocols.SetHTTP2(s.options.HTTP != HTTP1)
	r.http = &http.Server{
		Protocols: &protocols,
		TLSConfig: s.tls,
		ErrorLog:  log.New(io.Discard, "", 0), // handshakes that fail are what some tests want
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, innermost(c))
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.mu.Lock()
			if r.ended { // nothing may be added while stop waits
				r.mu.Unlock()
				panic(http.ErrAbortHandler)
			}
			r.serving.Add(1)
			r.mu.Unlock()
			defer r.serving.Done()
			s.serve(w, req)
		}),
	}
	for _, ln := range r.listeners {
		r.serving.Go(func() {
			if s.tls != nil {
				_ = r.http.ServeTLS(ln, "", "") // ends with ErrServerClosed
			} else {
				_ = r.http.Serve(ln)
			}
		})
	}
	return r, nil
}

func (r *run) stop() {
	_ = r.http.Close()
	for _, ln := range r.listeners {
		_ = ln.Close() // one that Serve has not come to yet is unknown to the http.Server
	}
	r.mu.Lock()
	r.ended = true
	left := r.conns
	r.conns = nil
	r.mu.Unlock()
	for c := range left { // hijacked and deaf ones, which the http.Server does not know
		_ = c.TCPConn.Close()
	}
	r.serving.Wait()
}
