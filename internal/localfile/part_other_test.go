//go:build !linux

package localfile

import "testing"

// everyMode runs f with the only way of writing there is.
func everyMode(t *testing.T, f func(t *testing.T, dir string)) {
	t.Helper()
	f(t, t.TempDir())
}
