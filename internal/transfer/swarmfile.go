package transfer

import (
	"context"
	"errors"
	"time"

	"github.com/ebbtransfer/ebb/internal/extent"
	"github.com/ebbtransfer/ebb/internal/localfile"
	"github.com/ebbtransfer/ebb/internal/peerdist"
	"github.com/ebbtransfer/ebb/internal/store"
)

// put writes a block that was verified, unless it is here.
func (s *swarm) put(b int, data []byte, from from) error {
	_, _, at := s.block(b)
	s.disk.Lock()
	defer s.disk.Unlock()
	s.mu.Lock()
	here := s.blocks[b] == blockHere
	s.mu.Unlock()
	if here {
		return nil
	}
	if err := s.file.GoTo(at.Offset); err != nil {
		return localfile.Err(err, s.path)
	}
	for len(data) > 0 {
		n := copy(s.file.Space(), data)
		if err := s.file.Advance(n); err != nil {
			return localfile.Err(err, s.path)
		}
		data = data[n:]
	}
	if from != theOrigin {
		s.run.live.moved.Add(at.Length)
	}
	s.came(b, at.Length, from)
	if time.Since(s.saved) >= checkpointEvery {
		return s.checkpoint()
	}
	return nil
}

// came counts a block that is written.
func (s *swarm) came(b int, n int64, from from) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks[b] = blockHere
	s.left--
	switch from {
	case aPeer:
		s.fromPeers += n
		s.node.Count(n, 0, 0)
	case theOrigin:
		s.node.Count(0, 0, n)
	case theCache:
		s.fromCache += n
		s.node.Count(0, n, 0)
	}
	s.live.done.Add(n)
	s.live.peers.Store(s.fromPeers)
	s.live.cached.Store(s.fromCache)
	if s.left == 0 && s.end != nil {
		s.end()
	}
}

// keep gives a block to the cache, for this machine and its peers.
func (s *swarm) keep(seg *peerdist.Segment, i int, data []byte) {
	s.mu.Lock()
	off := s.cache == nil || s.uncached
	s.mu.Unlock()
	if off {
		return
	}
	if err := s.cache.Keep(seg, i, data); err != nil {
		s.mu.Lock()
		s.uncached = true // it is full, or its disk fails; the file matters
		s.mu.Unlock()
	}
}

// note leaves a word for people; disk is held.
func (s *swarm) note(text string) {
	part := store.Part{}
	if s.f.Part != nil {
		part = *s.f.Part
	}
	part.Note = text
	s.f.Part = &part
}

// discard throws away what is here. It returns errPlain.
func (s *swarm) discard(why string, changed bool) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if err := s.restart(why, changed); err != nil {
		return err
	}
	s.mu.Lock()
	clear(s.blocks)
	s.left = len(s.blocks)
	s.mu.Unlock()
	if err := s.file.Restart(); err != nil {
		return localfile.Err(err, s.path)
	}
	return errPlain
}

// checkpoint makes what is here durable, then says so; disk is held.
func (s *swarm) checkpoint() error {
	s.saved = time.Now()
	if err := s.file.Sync(); err != nil {
		return localfile.Err(err, s.path)
	}
	s.record()
	f := s.f
	s.sink.File(s.index, &f)
	return nil
}

// record makes the file's record, with what is here, which is durable; disk is held.
func (s *swarm) record() {
	s.mu.Lock()
	var filled extent.Set
	for b := range s.blocks {
		if s.blocks[b] != blockHere {
			continue
		}
		_, _, at := s.block(b)
		if k := len(filled) - 1; k >= 0 && filled[k].End() == at.Offset {
			filled[k].Length += at.Length
		} else {
			filled = append(filled, at)
		}
	}
	peers, cached := s.fromPeers, s.fromCache
	s.mu.Unlock()
	s.has(filled)
	s.f.Part.Peers, s.f.Part.Cached = peers, cached
	s.f.Part.Digest = ""
	if s.byWord() && s.f.Checksum == "" {
		s.f.Part.Digest = s.about.digest // which proves what is here, also when it goes on in another way
	}
}

// finish makes the file durable. All of it was verified, so that the server need not be asked whether it has
// changed.
func (s *swarm) finish(ctx context.Context) error {
	s.record()
	err := s.seal(ctx, s.file, s.expected())
	var wrong wrongSum
	switch {
	case errors.As(err, &wrong) && s.byWord():
		return s.refute(wrong.Error())
	case errors.As(err, &wrong):
		s.file.Close()
		s.file = nil
		return s.mismatch(string(wrong))
	case errors.Is(err, errGone):
		s.file.Close()
		s.file = nil
		if err := s.restart(errGone.Error(), true); err != nil {
			return err
		}
		return errAnew
	case err != nil:
		return err
	}
	s.share(ctx)
	if s.byWord() {
		_ = s.node.PublishIndex(s.info, s.known) // its blocks are in the cache
		return nil
	}
	segments := make([]*peerdist.Segment, len(s.info.Segments))
	for i := range segments {
		segments[i] = &s.info.Segments[i]
	}
	s.node.Offer(segments)
	return nil
}

// share gives the space back that the cache's copies of the finished file's blocks take, where the file system can.
func (s *swarm) share(ctx context.Context) {
	if s.cache == nil || s.fromCache == s.f.Size { // which shares with another file already, perhaps
		return
	}
	f, err := s.job.Owner.Open(s.path)
	if err != nil {
		return
	}
	defer f.Close()
	if i, err := f.Stat(); err != nil || i.Size() != s.f.Size {
		return
	}
	for i := range s.info.Segments {
		if ctx.Err() != nil || s.cache.Share(&s.info.Segments[i], f) != nil {
			return
		}
	}
}

// leave closes the file, recording how far it is if it is not done.
func (s *swarm) leave() error {
	if s.file == nil {
		return nil
	}
	if s.f.State != store.FilePending {
		return localErr(s.file.Close(), s.path)
	}
	if s.left == len(s.blocks) { // nothing worth keeping
		s.file.Close()
		return s.job.Owner.Remove(s.path)
	}
	if err := s.checkpoint(); err != nil {
		s.file.Close()
		return err
	}
	err := localErr(s.file.Close(), s.path)
	if stands, verr := s.job.Owner.Version(s.path); err == nil && verr == nil && stands.Changed != 0 {
		s.proofs.add(s.path, stands)
	}
	return err
}
