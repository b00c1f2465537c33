package session_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// BenchmarkSmallUploads makes uploads of 16 KiB, 16 at once: with one request each, and with one that
// makes the session and one that brings its bytes.
func BenchmarkSmallUploads(b *testing.B) {
	data := source(16 << 10)
	for _, whole := range []bool{true, false} {
		b.Run(fmt.Sprintf("whole=%v", whole), func(b *testing.B) {
			d, err := session.OpenDir(b.TempDir(), session.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer d.Close()
			var n atomic.Int64
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s := spec(fmt.Sprint("f", n.Add(1)), int64(len(data)))
					s.Whole = whole
					i, err := d.Create(b.Context(), s)
					if err != nil {
						b.Fatal(err)
					}
					ctx, u, err := d.Acquire(b.Context(), i.ID, alice)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := u.Append(ctx, bytes.NewReader(data)); err != nil {
						b.Fatal(err)
					}
					if err := u.Publish(ctx); err != nil {
						b.Fatal(err)
					}
					u.Release()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "uploads/s")
		})
	}
}
