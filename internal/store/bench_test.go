package store

import "testing"

// BenchmarkCommit measures one durable commit of one new job with one file.
func BenchmarkCommit(b *testing.B) {
	s, err := Open(b.TempDir(), func(err error) { b.Error(err) })
	if err != nil {
		b.Fatal(err)
	}
	n := int64(0)
	for b.Loop() {
		n++
		if err := s.Commit(change(n)); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}
