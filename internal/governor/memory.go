package governor

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// memories is what is remembered of paths between jobs and restarts, so that a busy start is
// not taken for an idle one.
type memories struct {
	file string

	mu    sync.Mutex
	paths map[string]record // guarded by mu: by route and server
	saved time.Time         // guarded by mu
	dirty bool              // guarded by mu
}

type record struct {
	Base     float64   `json:"base_rtt"` // seconds
	Capacity float64   `json:"capacity"` // bytes per second
	Seen     time.Time `json:"seen"`
}

const (
	// rememberFor is how long what was learned of a path counts.
	rememberFor = 7 * 24 * time.Hour
	maxRecords  = 256
)

// load reads the file; one that is missing or damaged is as good as empty.
func (m *memories) load() {
	m.paths = map[string]record{}
	if m.file == "" {
		return
	}
	text, err := os.ReadFile(m.file)
	if err != nil || json.Unmarshal(text, &m.paths) != nil || m.paths == nil {
		m.paths = map[string]record{}
	}
}

func (m *memories) get(r route, server netip.Addr) memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.paths[key(r, server)]
	age := time.Since(rec.Seen)
	sane := rec.Base >= leastRTT && rec.Base < 60 && rec.Capacity >= leastCapacity && rec.Capacity < 1e12
	if !ok || !sane || age < -time.Hour || age > rememberFor {
		return memory{}
	}
	return memory{rec.Base, rec.Capacity}
}

func (m *memories) put(r route, server netip.Addr, v memory) {
	if v.Base < leastRTT || v.Capacity < leastCapacity {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.paths[key(r, server)] = record{v.Base, v.Capacity, time.Now().UTC()}
	m.dirty = true
	for len(m.paths) > maxRecords {
		oldest := ""
		for k, rec := range m.paths {
			if oldest == "" || rec.Seen.Before(m.paths[oldest].Seen) {
				oldest = k
			}
		}
		delete(m.paths, oldest)
	}
}

func key(r route, server netip.Addr) string {
	if r.local {
		return r.String()
	}
	return r.String() + " to " + server.String()
}

// saveEvery bounds how often the file is written before the end.
const saveEvery = time.Minute

// saveSoon saves what is new, if it was not done just now. What cannot be written is tried again
// at the end, which tells of it.
func (m *memories) saveSoon() {
	m.mu.Lock()
	soon := time.Since(m.saved) < saveEvery
	if !soon {
		m.saved = time.Now()
	}
	m.mu.Unlock()
	if !soon {
		_ = m.save()
	}
}

// save writes the file as a whole, so that a crash leaves the old one.
func (m *memories) save() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.file == "" || !m.dirty {
		return nil
	}
	text, err := json.MarshalIndent(m.paths, "", "\t")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(m.file), ".paths-*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(text, '\n'))
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), m.file)
	}
	if err != nil {
		if rerr := os.Remove(tmp.Name()); !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	m.dirty = false
	return nil
}
