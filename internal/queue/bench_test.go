package queue

import (
	"encoding/json"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/store"
)

// BenchmarkListing measures what one job costs in a listing.
func BenchmarkListing(b *testing.B) {
	f := &store.File{Remote: "http://127.0.0.1:9/files/job-1-1", Local: "/var/tmp/dl/job-1-1", Size: -1}
	v := &version{rec: &store.Job{Num: 1, ID: bits.NewID(), State: bits.Suspended, Name: "job-1-1", Created: 1e18, Modified: 1e18}, files: []*store.File{f}}
	v.count()
	var names userNames
	for _, files := range []bool{false, true} {
		name := map[bool]string{false: "jobs", true: "files"}[files]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := json.Marshal(v.view(&names, 0, files, nil)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
