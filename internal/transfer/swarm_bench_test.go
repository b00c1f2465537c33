package transfer

import "testing"

// BenchmarkAWarmPeer fetches 256 MiB from one peer, with both ends in this process.
func BenchmarkAWarmPeer(b *testing.B) {
	for _, first := range []bool{true, false} {
		name := "version 2"
		if first {
			name = "version 1"
		}
		b.Run(name, func(b *testing.B) {
			o := newOrigin(b, 256<<20)
			o.first = first
			warm := newMachine(b)
			warm.get(o)
			at := warm.peer()
			b.SetBytes(256 << 20)
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				m := newMachine(b, at)
				b.StartTimer()
				m.get(o)
			}
		})
	}
}
