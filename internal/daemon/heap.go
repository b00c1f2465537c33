package daemon

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The collector of garbage lets the heap of a queue of 100,000 jobs grow by less than half, so that it does not
// cost its own size again. A small heap may double, up to heapRoom: it would be collected every
// few megabytes otherwise.
const (
	gcPercent = 40
	gcMost    = 100
	heapRoom  = 72 << 20
)

// growth returns by how much, in percent, a heap with so many live bytes may grow before it is collected.
func growth(live uint64) int {
	room := uint64(heapRoom) - min(live, heapRoom)
	return int(min(max(100*room/max(live, 1), gcPercent), gcMost))
}

// paceCollector sets the growth of the heap now and, in a process that lives on, after each collection.
func paceCollector() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	debug.SetGCPercent(growth(live[0].Value.Uint64()))
	runtime.AddCleanup(new([2]*int), func(struct{}) { paceCollector() }, struct{}{})
}
