package governor

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// recorded returns the samples of a trace in testdata. Each line has those of one step: the time in seconds, the
// round-trip time and how coarse it is in seconds, bytes, lost packets, whether the tick was late and the reading torn,
// bytes per second of others on this machine, the wait of a pair in seconds, whether we send, and bytes of flight and slack.
func recorded(t *testing.T, name string) []sample {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name+".txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var samples []sample
	for r := bufio.NewReader(z); ; {
		s := sample{cap: -1}
		_, err := fmt.Fscanln(r, &s.now, &s.rtt, &s.coarse, &s.bytes, &s.lost, &s.late, &s.torn, &s.others, &s.pair, &s.up, &s.flight, &s.slack)
		if errors.Is(err, io.EOF) {
			return samples
		}
		if err != nil {
			t.Fatalf("%s, line %d: %v", name, len(samples)+1, err)
		}
		samples = append(samples, s)
	}
}

// The traces are of the link laboratory: 6 s alone, 4 s beside a bulk flow of the neighbour, 3 s alone. What the law decides
// is compared, not how the path answered, as a trace does not answer.
func TestRecordedTraces(t *testing.T) {
	for _, c := range []struct {
		name     string
		capacity float64 // of the link, bytes of payload per second
		within   float64 // how soon the law yields to the flow that comes in the seventh second
	}{
		{"download-20m", 2.413e6, 0.25},
		{"download-20m-100ms-away", 2.413e6, 0.4},
		{"download-100m", 12.07e6, 0.25},
		{"upload-20m", 2.413e6, 0.25},
	} {
		t.Run(c.name, func(t *testing.T) {
			law := newControl(memory{})
			samples := recorded(t, c.name)
			found, yielded, returned := 0.0, 0.0, 0.0
			for _, s := range samples {
				before := law.phase
				law.step(s)
				at := s.now - samples[0].now
				switch {
				case before == law.phase:
				case law.phase == yielding && yielded == 0:
					yielded, found = at, law.whole
					if !law.dropped {
						found = law.capacity
					}
				case law.phase == cruising && yielded > 0 && at > 9:
					returned = at
				}
			}
			t.Logf("%d samples in %.1f s; capacity %.0f; yields at %.2f s, is back at %.2f s", len(samples), samples[len(samples)-1].now-samples[0].now, found, yielded, returned)
			if math.Abs(found/c.capacity-1) > 0.03 {
				t.Errorf("the capacity found is %.0f; want about %.0f", found, c.capacity)
			}
			if yielded < 5.8 || yielded > 6+c.within {
				t.Errorf("yields at %.2f s; want it after 6 s and by %.2f", yielded, 6+c.within)
			}
			if returned < 9.9 || returned > 12 {
				t.Errorf("is back at %.2f s; want it after 10 s, within two", returned)
			}
		})
	}
}
