package scenario

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
	"github.com/ebbtransfer/ebb/test/faultserver"
	"github.com/ebbtransfer/ebb/test/servers"
)

// TestPartsOfFilesSurviveKills fetches parts of a file in one job and, on demand, parts and then the
// whole of it in another, kills the service in the middle of both, and compares every byte.
func TestPartsOfFilesSurviveKills(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(string, servers.Options) (*servers.Server, error){"nginx": servers.Nginx, "Apache": servers.Apache} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const size = 12*mib + 321
			data := make([]byte, size)
			if _, err := faultserver.Content(7, size).ReadAt(data, 0); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "f"), data, 0o644); err != nil {
				t.Fatal(err)
			}
			// Its date must not be that of this very second, of which nothing can be told.
			long := time.Now().Add(-time.Hour)
			if err := os.Chtimes(filepath.Join(dir, "f"), long, long); err != nil {
				t.Fatal(err)
			}
			srv := started(t)(begin(dir, servers.Options{AccessLog: true, RateLimit: 3 * mib / 2}))
			s := start(t, options{})
			whole, parts := filepath.Join(s.dir, "whole"), filepath.Join(s.dir, "parts")

			s.cli("create", "parts", "--priority", "foreground").want(t, 0)
			s.cli("add", "parts", srv.URL+"/f", parts, "--range", fmt.Sprintf("%d:eof,0:1000", size-5*mib), "--range", "2000:3145728").want(t, 0)
			want := bytes.Join([][]byte{data[size-5*mib:], data[:1000], data[2000 : 2000+3145728]}, nil)
			s.cli("create", "demand", "--priority", "foreground").want(t, 0)
			s.cli("set", "demand", "on_demand=true").want(t, 0)
			s.cli("add", "demand", srv.URL+"/f", whole).want(t, 0)
			s.cli("resume", "parts", "demand").want(t, 0)
			s.cli("file", "ranges", "demand", "whole", "5000000:4194304", "100:50").want(t, 0)

			inParts, err := s.Find(s.ctx(), "parts")
			if err != nil {
				t.Fatal(err)
			}
			onDemand, err := s.Find(s.ctx(), "demand")
			if err != nil {
				t.Fatal(err)
			}
			s.moved(inParts, mib)
			s.moved(onDemand, mib)
			for _, job := range []*client.Job{inParts, onDemand} {
				if info := s.info(job); !info.State.Running() {
					t.Fatalf("%s is %s already; the kill would not be in its middle", info.Name, info.State)
				}
			}
			s.kill9()
			s.launch()

			// What was asked for comes, and no more.
			s.until(onDemand, "all that was asked for is here", func(j *bits.Job) bool { return j.State == bits.Suspended })
			if got := s.cli("file", "ranges", "demand", "0").want(t, 0).out; got != "100:50\n5000000:4194304\n" {
				t.Errorf("here is %q", got)
			}
			var d bits.FileDetail
			s.cli("file", "show", "--json", "demand", "0").want(t, 0).decode(t, &d)
			if !strings.Contains(d.ResponseHeaders, "Etag: ") || d.BytesTotal != size || len(d.Wanted) > 0 {
				t.Errorf("the file is %+v", d)
			}
			b, err := os.ReadFile(d.Temporary)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range d.Filled {
				if !bytes.Equal(b[r.Offset:r.End()], data[r.Offset:r.End()]) {
					t.Errorf("the bytes of %v are others", r)
				}
			}

			// The rest of it, through one more kill; nobody needs to resume the job.
			s.cli("file", "ranges", "demand", "0", "0:eof").want(t, 0)
			s.moved(onDemand, 5*mib)
			if info := s.info(onDemand); !info.State.Running() {
				t.Fatalf("it is %s already", info.State)
			}
			s.kill9()
			s.launch()
			s.settled(onDemand, bits.Transferred)
			s.cli("file", "validate", "demand", "whole", "right").want(t, 0)
			if out := s.cli("file", "show", "demand", "whole").want(t, 0).out; !strings.Contains(out, "content    found right") || !strings.Contains(out, "\n  Etag: ") {
				t.Errorf("file show prints\n%s", out)
			}
			s.settled(inParts, bits.Transferred)
			s.cli("complete", "demand", "parts").want(t, 0)
			for path, want := range map[string][]byte{whole: data, parts: want} {
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s has %d bytes (%v), want %d others", path, len(got), err, len(want))
				}
			}
			s.holds("parts", "whole")

			log, err := srv.Requests()
			if err != nil {
				t.Fatal(err)
			}
			var merged int
			for _, r := range log {
				if strings.Contains(r.Range, ",") && r.Status == 206 {
					merged++
				}
			}
			if merged == 0 {
				t.Errorf("no request was for several parts: %+v", log)
			}
		})
	}
}
