package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoad(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"all keys", "[jobs]\nforeground = 8\nbackground = 2\ntime_slice = \"10s\"\nkeep_finished = \"0s\"\nkeep_events = \"1h\"\n[transfer]\nstall_timeout = \"5s\"\n", ""},
		{"unknown key", "[jobs]\n\nbackgrount = 2\n", ":3: jobs.backgrount: there is no such key; did you mean jobs.background?"},
		{"unknown table", "[jobs]\n[joobs]\nx = 1\n", ":3: joobs.x: there is no such key"},
		{"wrong type", "[jobs]\nbackground = \"two\"\n", ":2: jobs.background: want a whole number"},
		{"not a duration", "[jobs]\ntime_slice = \"soon\"\n", "not a duration"},
		{"too small", "[jobs]\nbackground = 0\n", ":2: jobs.background: 0 is out of range; want 1 to 100"},
		{"too large", "# x\n[transfer]\nstall_timeout = \"2h\"\n", ":3: transfer.stall_timeout: 2h is out of range; want 1s to 1h"},
		{"not TOML", "[jobs\n", "expected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "ebb.toml")
			if err := os.WriteFile(name, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Load(name)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestParseKeepsDefaultsOfAbsentKeys(t *testing.T) {
	p, err := Parse("", []byte("jobs.background = 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	if p.Jobs.Background != 3 || p.Jobs.Foreground != Default().Jobs.Foreground || p.Transfer.StallTimeout != Duration(30*time.Second) {
		t.Errorf("got %+v", p)
	}
}

func TestMissingFileIsNamed(t *testing.T) {
	if _, err := Load("/nonexistent/ebb.toml"); err == nil || !strings.Contains(err.Error(), "/nonexistent/ebb.toml") {
		t.Errorf("error %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("[jobs]\nbackground = 2\n"))
	f.Add([]byte("jobs = 3"))
	f.Add([]byte("bandwidth = { work = { days = 'Sat-Mon', hours = '22:00-06:30', high = '1.5 MB/s' } }"))
	f.Fuzz(func(_ *testing.T, text []byte) {
		_, _ = Parse("", text)
	})
}
