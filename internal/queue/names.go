package queue

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/ebbtransfer/ebb/internal/localfile"
)

const (
	// mostAsking bounds the users that are asked for at once.
	mostAsking = 4
	// nameAge is for how long a user that the system does not know is not asked for again.
	nameAge = time.Minute
)

// userNames knows the names of users. The loop and listings ask it, so it never waits: the user database may be
// on another machine, which does not answer. Who is not known yet has a number for a name. The zero value
// knows this machine's own users.
type userNames struct {
	mu     sync.Mutex // guards what follows
	known  map[uint32]userName
	asks   context.Context // ends the questions; nil: none are asked
	turns  chan struct{}
	asking sync.WaitGroup // added to only while asks is there
}

// userName is what is known of a user.
type userName struct {
	text  string
	again time.Time // when to ask again; zero for never
}

// open lets users be asked for that are not this machine's own, until the context ends or close is called.
func (u *userNames) open(ctx context.Context) {
	u.asks, u.turns = ctx, make(chan struct{}, mostAsking)
}

// close waits for the questions, whose context has ended.
func (u *userNames) close() {
	u.mu.Lock()
	u.asks = nil
	u.mu.Unlock()
	u.asking.Wait()
}

// name returns the name of a user, or the number.
func (u *userNames) name(uid uint32) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	n, ok := u.known[uid]
	if ok && (n.again.IsZero() || time.Now().Before(n.again)) {
		return n.text
	}
	if u.known == nil {
		u.known = map[uint32]userName{}
	}
	if own, here := localfile.LocalName(uid); here {
		u.known[uid] = userName{text: own}
		return own
	}
	n = userName{text: strconv.FormatUint(uint64(uid), 10), again: time.Now().Add(nameAge)}
	u.known[uid] = n
	if u.asks != nil {
		ctx := u.asks
		u.asking.Go(func() { u.ask(ctx, uid) })
	}
	return n.text
}

// ask asks the user database.
func (u *userNames) ask(ctx context.Context, uid uint32) {
	select {
	case u.turns <- struct{}{}:
		defer func() { <-u.turns }()
	case <-ctx.Done():
		return
	}
	account, known, err := localfile.AccountOf(ctx, uid)
	if err != nil || !known || account.Name == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[uid] = userName{text: account.Name}
}
