package serve

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/config"
	"github.com/ebbtransfer/ebb/internal/serve/session"
)

// What is finished goes within an hour of its time, the rest when the group says.
func TestKeepClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		store, err := session.OpenDir(t.TempDir(), session.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		o := config.DefaultUploads(nil)
		o.SessionTimeout, o.Cleanup = 2*time.Hour, 14*day
		g := &group{Group: config.Group{Path: "/", Uploads: &o}, uploads: &uploads{prefix: &session.Prefix{Store: store}}}
		s := &server{Options: Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))}, metrics: newMetrics()}
		s.groups.Store(&table{g})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go s.keepClean(ctx)
		synctest.Wait() // it cleans at the start

		began := time.Now()
		for _, target := range []string{"finished", "begun"} {
			info, err := store.Create(ctx, session.Spec{Protocol: "tus", Target: target, Limit: -1})
			if err != nil {
				t.Fatal(err)
			}
			if target == "begun" {
				continue
			}
			sctx, held, err := store.Acquire(ctx, info.ID, session.Who{})
			if err != nil {
				t.Fatal(err)
			}
			if err := held.Publish(sctx); err != nil {
				t.Fatal(err)
			}
			held.Release()
		}
		for _, c := range []struct {
			at   time.Duration
			want []string
		}{{0, []string{"begun", "finished"}}, {7*day - time.Hour, []string{"begun", "finished"}}, {7*day + 2*time.Hour, []string{"begun"}}, {14*day + time.Hour, nil}} {
			time.Sleep(c.at - time.Since(began))
			list, err := store.List(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, i := range list {
				got = append(got, i.Target)
			}
			if slices.Sort(got); !slices.Equal(got, c.want) {
				t.Errorf("after %v: %q, want %q", c.at, got, c.want)
			}
		}
	})
}
