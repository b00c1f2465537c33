package governor

import (
	"net"

	"github.com/ebbtransfer/ebb/bits"
)

// Class says on which terms a connection takes bandwidth.
type Class uint8

// The classes.
const (
	Background Class = iota // only what nobody else wants
	Foreground              // as any other program
)

// Conn is a connection under the governor.
type Conn struct {
	net.Conn
	class Class
}

// Govern puts a new connection under the governor, before anything was sent over it.
func (g *Governor) Govern(conn *net.TCPConn, class Class) *Conn {
	return &Conn{Conn: conn, class: class}
}

// Pace says what decides how fast the connection moves, and the same for people.
func (c *Conn) Pace() (bits.PaceState, string) {
	return bits.PaceUnrestricted, "foreground: takes what it can get"
}
