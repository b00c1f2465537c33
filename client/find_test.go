package client_test

import (
	"context"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

func TestFindTakesAnyName(t *testing.T) {
	ctx := context.Background()
	m := client.New(socket)
	defer m.Close()
	for _, name := range []string{"a/b", "../x", "a//b/", "50% ?#&;", "a\\b", "%2F", "ä 中"} {
		job, err := m.Create(ctx, bits.NewJob{Settings: bits.Settings{Name: &name}})
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		found, err := m.Find(ctx, name)
		if err != nil || found.ID != job.ID {
			t.Errorf("%q: got %v, %v", name, found, err)
		}
		if _, err := job.Cancel(ctx); err != nil {
			t.Error(err)
		}
	}
}
