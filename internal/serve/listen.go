package serve

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
)

// listen returns the sockets that systemd handed over if it did, else makes those of the
// configuration. Of systemd's, those whose name begins with "https" speak TLS.
func (s *server) listen(ctx context.Context) (list []listener, err error) {
	given, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(given)) { // the first names the state directory
		for _, l := range given[name] {
			if l != nil {
				list = append(list, listener{l, strings.HasPrefix(name, "https")})
			}
		}
	}
	if len(list) > 0 {
		return list, nil
	}
	for _, a := range s.Listen {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", a.Addr)
		if err != nil {
			closeAll(list)
			return nil, fmt.Errorf("listen on %s: %w", a.Addr, err)
		}
		list = append(list, listener{l, a.TLS})
	}
	return list, nil
}

// listenOthers makes the admin socket and, if there is to be one, that for Prometheus.
func (s *server) listenOthers(ctx context.Context) (list []listener, err error) {
	admin, err := listenAdmin(ctx, s.Socket)
	if err != nil {
		return nil, err
	}
	list = []listener{{admin, false}}
	if s.Metrics != "" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", s.Metrics)
		if err != nil {
			closeAll(list)
			return nil, fmt.Errorf("listen for Prometheus on %s: %w", s.Metrics, err)
		}
		list = append(list, listener{l, false})
	}
	return list, nil
}

// listener is a socket that clients connect to.
type listener struct {
	net.Listener
	tls bool
}

// serve serves until the server is closed.
func (l listener) serve(server *http.Server) error {
	if l.tls {
		return server.ServeTLS(l, "", "")
	}
	return server.Serve(l)
}

func closeAll(list []listener) {
	for _, l := range list {
		_ = l.Close()
	}
}

// host is the name by which clients on other machines reach the listener.
func (l listener) host() string {
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "localhost"
	}
	if !a.IP.IsUnspecified() {
		return a.IP.String()
	}
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "localhost"
}

func (l listener) url() string {
	scheme := "http"
	if l.tls {
		scheme = "https"
	}
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return scheme + "+unix://" + l.Addr().String()
	}
	return scheme + "://" + net.JoinHostPort(l.host(), fmt.Sprint(a.Port))
}
