package governor

import "context"

// BeginSend says that a request with a body goes over the connection now, EndSend that its answer was
// read or given up. Of a background connection it waits until the path has room for another.
func (c *Conn) BeginSend(_ context.Context) error { return nil }

// EndSend ends what BeginSend began.
func (c *Conn) EndSend() {}

// Fragment returns how many bytes one request should carry, so that a background upload can end one
// within a moment and a foreground one is not held up by answers.
func (c *Conn) Fragment() int64 {
	if c.class == Foreground {
		return 13 << 20
	}
	return 1 << 20
}
