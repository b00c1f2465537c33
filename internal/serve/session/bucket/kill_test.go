package bucket_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ebbtransfer/ebb/internal/serve/session"
	"github.com/ebbtransfer/ebb/internal/serve/session/bucket"
	"github.com/ebbtransfer/ebb/internal/serve/session/sessiontest"
)

// workEnv makes the test binary a node that uploads into the bucket of the configuration in it.
const workEnv = "BUCKET_TEST_CONFIG"

func TestMain(m *testing.M) {
	config := os.Getenv(workEnv)
	if config == "" {
		os.Exit(m.Run())
	}
	var c bucket.Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		panic(err)
	}
	b, err := bucket.Open(context.Background(), c, session.Options{})
	if err == nil {
		err = sessiontest.Work(context.Background(), b, 2, 12<<20, 9<<20, os.Stdout)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKilledNode kills nodes at any moment; another one then finds every session, waits until the
// dead one's leases have ended, and goes on.
func TestKilledNode(t *testing.T) {
	g := startGateway(t)
	config, err := json.Marshal(g.config)
	if err != nil {
		t.Fatal(err)
	}
	var l sessiontest.Ledger
	for range 2 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), workEnv+"="+string(config))
		var told, stderr bytes.Buffer
		c.Stdout, c.Stderr = &told, &stderr
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second + time.Duration(rand.Int64N(int64(3*time.Second))))
		_ = c.Process.Kill()
		_ = c.Wait()
		if stderr.Len() > 0 {
			t.Fatalf("the node ended by itself: %s", &stderr)
		}
		t.Logf("%d events", bytes.Count(told.Bytes(), []byte("\n")))
		if err := l.Read(told.Bytes()); err != nil {
			t.Fatal(err)
		}
		if err := l.Check(t.Context(), g.node(t), g.targets(t)); err != nil {
			t.Fatal(err)
		}
	}
}
