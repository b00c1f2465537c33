package serve

import (
	"context"
	"fmt"
	"net"
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
	for name, all := range given {
		for _, l := range all {
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
