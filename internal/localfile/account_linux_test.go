package localfile

import (
	"os/exec"
	"testing"
)

// TestAccountOf compares what the two ways of asking tell.
func TestAccountOf(t *testing.T) {
	a, known, err := AccountOf(t.Context(), 0)
	if err != nil || !known || a.Name != "root" || a.Home == "" || a.GID != 0 {
		t.Fatalf("root is %+v, %v, %v", a, known, err)
	}
	if _, known, err := AccountOf(t.Context(), 4_000_000_001); known || err != nil {
		t.Errorf("a user that is not there: %v, %v", known, err)
	}
	if name, known := LocalName(0); !known || name != "root" {
		t.Errorf("the list has %q for root", name)
	}
	if name, known := LocalName(4_000_000_001); known {
		t.Errorf("the list has %q for a user that is not there", name)
	}
	if _, err := exec.LookPath("getent"); err != nil {
		t.Skip("no getent")
	}
	if b, known, err := viaNSS(t.Context(), 0); err != nil || !known || b.Name != a.Name || b.Home != a.Home || b.GID != a.GID {
		t.Errorf("getent tells %+v, %v, %v of root; want %+v", b, known, err, a)
	}
}
