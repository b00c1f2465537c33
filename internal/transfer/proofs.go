package transfer

import (
	"sync"

	"github.com/ebbtransfer/ebb/internal/localfile"
)

// proofs remembers part files of which all that is recorded was verified, as long as nobody wrote to them.
type proofs struct {
	mu    sync.Mutex
	files map[string]localfile.Version // guarded by mu: by path
}

// maxProofs bounds what is remembered; what is forgotten is verified again.
const maxProofs = 1024

func (p *proofs) add(path string, id localfile.Version) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.files == nil || len(p.files) >= maxProofs {
		p.files = map[string]localfile.Version{}
	}
	p.files[path] = id
}

func (p *proofs) same(path string, id localfile.Version) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.files[path]
	delete(p.files, path)
	return ok && known == id
}
