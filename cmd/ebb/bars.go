package main

import (
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/ebbtransfer/ebb/bits"
)

// barsAfter is how long a job may take without a bar: a short one only flickers.
const barsAfter = 300 * time.Millisecond

// narrow is the number of columns below which a job's line is a brief one.
const narrow = 90

// bars draws on a terminal: a bar for each job and, where a job has several files, one for
// each file that moves.
type bars struct {
	out     io.Writer
	columns int
	began   time.Time

	mu    sync.Mutex // guards what follows
	box   *mpb.Progress
	jobs  map[bits.ID]*mpb.Bar
	files map[string]*mpb.Bar
}

func (b *bars) show(t *track, _ bits.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.box == nil {
		if time.Since(b.began) < barsAfter {
			return
		}
		b.box = mpb.New(mpb.WithOutput(b.out), mpb.WithAutoRefresh(), mpb.WithRefreshRate(150*time.Millisecond))
		b.jobs, b.files = map[bits.ID]*mpb.Bar{}, map[string]*mpb.Bar{}
	}
	t.mu.Lock()
	progress, over := t.progress, t.state == bits.Transferred || t.state == bits.Errored || t.state.Final()
	moving := append([]movingFile(nil), t.moving...)
	t.mu.Unlock()

	if progress.FilesTotal > 1 {
		b.showFiles(moving)
	}
	bar := b.jobs[t.id]
	if bar == nil {
		const last = 1 << 20 // below the files
		bar = b.add(last, func() (string, string) {
			t.mu.Lock()
			defer t.mu.Unlock()
			if b.columns < narrow {
				return t.name, t.brief(time.Now())
			}
			return t.name, t.line(time.Now())
		})
		b.jobs[t.id] = bar
	}
	if progress.BytesTotal < 0 && progress.FilesTotal > 1 { // what is known of many files is how many
		set(bar, int64(progress.FilesTransferred), bits.Size(progress.FilesTotal))
	} else {
		set(bar, progress.BytesTransferred, progress.BytesTotal)
	}
	if over {
		bar.Abort(true)
	}
}

// showFiles makes the bars of files those of the files that move.
func (b *bars) showFiles(moving []movingFile) {
	still := map[string]bool{}
	for _, f := range moving {
		still[f.Local] = true
	}
	for local, bar := range b.files {
		if !still[local] {
			bar.Abort(true)
			delete(b.files, local)
		}
	}
	for _, f := range moving {
		bar := b.files[f.Local]
		if bar == nil {
			name := "  " + filepath.Base(f.Local)
			bar = b.add(0, func() (string, string) { return name, "" })
			b.files[f.Local] = bar
		}
		set(bar, f.BytesTransferred, f.BytesTotal)
	}
}

// add adds a bar whose name and text are asked for whenever it is drawn; without a text it
// shows how much is done.
func (b *bars) add(priority int, text func() (name, right string)) *mpb.Bar {
	name := func(decor.Statistics) string {
		s, _ := text()
		return runewidth.Truncate(safe(s), max(12, b.columns/4), "…") + " "
	}
	right := func(st decor.Statistics) string {
		_, s := text()
		if s == "" && st.Total > 0 {
			s = amount(st.Current, bits.Size(st.Total))
		} else if s == "" {
			s = amount(st.Current, bits.Unknown)
		}
		return " " + s
	}
	return b.box.New(0, mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
		mpb.BarPriority(priority),
		mpb.BarWidth(max(12, b.columns/3)),
		mpb.PrependDecorators(decor.Any(name, decor.WC{C: decor.DindentRight | decor.DSyncWidth})),
		mpb.AppendDecorators(decor.Any(right, decor.WC{C: decor.DindentRight})),
	)
}

func set(bar *mpb.Bar, done int64, total bits.Size) {
	bar.SetTotal(max(0, int64(total)), false)
	bar.SetCurrent(done)
}

// say prints a line above the bars.
func (b *bars) say(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w := b.out
	if b.box != nil {
		w = b.box
	}
	_, _ = fmt.Fprintln(w, line)
}

// end takes the bars away.
func (b *bars) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.box == nil {
		return
	}
	for _, bar := range b.jobs {
		bar.Abort(true)
	}
	for _, bar := range b.files {
		bar.Abort(true)
	}
	b.box.Wait()
	b.box = nil
}
