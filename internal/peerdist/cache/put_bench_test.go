package cache

import (
	"bytes"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/peerdist"
)

func BenchmarkPut(b *testing.B) {
	for _, a := range []peerdist.Algorithm{peerdist.SHA256, peerdist.TruncatedSHA512} {
		b.Run(map[int]string{1: "version 1", 2: "version 2"}[a.Version()], func(b *testing.B) {
			content := make([]byte, 64<<20)
			for i := range content {
				content[i] = byte(i >> 3 * i)
			}
			h, err := peerdist.Generate(b.Context(), bytes.NewReader(content), a)
			if err != nil {
				b.Fatal(err)
			}
			info, err := h.Info(a.ServerKey([]byte("x")), bits.Range{Length: int64(len(content))})
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				b.StopTimer()
				c, err := Open(b.TempDir(), Limits{Size: 1 << 40, MaxAge: time.Hour})
				if err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				for i := range info.Segments {
					s := &info.Segments[i]
					for k := range s.Blocks() {
						at, n := s.Block(k)
						if err := c.Put(s, k, content[s.Offset+int64(at):][:n]); err != nil {
							b.Fatal(err)
						}
					}
				}
				c.Close()
			}
		})
	}
}
