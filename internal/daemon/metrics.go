package daemon

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
)

// mostScrapers bounds the connections of those that read the metrics.
const mostScrapers = 16

// listenMetrics listens for Prometheus. An address without a host is one of this machine only: who wants
// others to read it says so.
func (s *service) listenMetrics() (net.Listener, error) {
	host, port, err := net.SplitHostPort(s.Metrics)
	if err != nil {
		return nil, fmt.Errorf("the address for Prometheus, %q, is not HOST:PORT: %w", s.Metrics, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("listen for Prometheus on %s: %w", s.Metrics, err)
	}
	return netutil.LimitListener(l, mostScrapers), nil
}

// serveMetrics serves the metrics, and nothing else, to whoever reaches the listener, which ends it: they name no
// job, no file, no server and no user.
func (s *service) serveMetrics(l net.Listener, metrics http.Handler) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", metrics)
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute, // Prometheus comes each minute
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug), // what strangers do wrong
	}
	_ = server.Serve(l) // it ends with the listener
	_ = server.Close()
}
