package localfile

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serveEnv makes the test binary a process that sends bytes, so that the CPU time of the receiving
// side can be told from that of the sending one.
const serveEnv = "LOCALFILE_BENCH_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveEnv) != "" {
		serve()
		return
	}
	os.Exit(m.Run())
}

func serve() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		b := make([]byte, 1<<20)
		for err == nil {
			_, err = c.Write(b)
		}
		_ = c.Close()
	}
}

func startServer(b *testing.B) string {
	b.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), serveEnv+"=1")
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		b.Fatal(err)
	}
	return addr
}

func cpu() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBlocks compares lengths of blocks for 1 GiB from loopback TCP with a checkpoint each 16 MiB.
func BenchmarkBlocks(b *testing.B) {
	const total = 1 << 30
	addr := startServer(b)
	was := blocks
	b.Cleanup(func() { blocks = was })
	for _, kib := range []int{256, 1024, 2048, 4096} {
		b.Run(fmt.Sprintf("block=%dK", kib), func(b *testing.B) {
			blocks = &pool{block: kib << 10, free: map[int][][]byte{}}
			b.SetBytes(total)
			path := filepath.Join(b.TempDir(), "part")
			start := cpu()
			for b.Loop() {
				download(b, path, addr, total)
				_ = os.Remove(path)
			}
			b.ReportMetric((cpu()-start).Seconds()/float64(b.N), "cpu-s/GiB")
		})
	}
}

func download(b *testing.B, path, addr string, total int64) {
	b.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	p, err := Open(context.Background(), path, Options{Size: total})
	if err != nil {
		b.Fatal(err)
	}
	for last := int64(0); p.Offset() < total; {
		s := p.Space()
		n, err := io.ReadFull(c, s[:min(int64(len(s)), total-p.Offset())])
		if err == nil {
			err = p.Advance(n)
		}
		if err == nil && p.Offset()-last >= 16<<20 {
			last, err = p.Checkpoint()
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := p.Finish(time.Now()); err != nil {
		b.Fatal(err)
	}
	_ = p.Close()
}

// BenchmarkSmallFiles writes 10,000 durable files of 16 KiB with 16 goroutines and renames them; each
// goroutine syncs its own file, since collecting files for a few syncing goroutines was slower, with
// and without starting their write-back first. The files stay until the end of the benchmark: ext4
// passes over inodes that were deleted within the last seconds one by one, which makes creating files
// after deleting many, on the whole file system, up to four times as slow. Wait a minute between runs.
func BenchmarkSmallFiles(b *testing.B) {
	parent, was := b.TempDir(), startMode
	b.Cleanup(func() { startMode = was })
	for _, m := range []struct {
		name string
		mode writeMode
	}{{"default", direct}, {"buffered", buffered}} {
		for _, size := range []int{16 << 10, 16<<10 - 100} {
			b.Run(fmt.Sprintf("%s/%d", m.name, size), func(b *testing.B) {
				startMode = m.mode
				start := cpu()
				for b.Loop() {
					smallFiles(b, parent, make([]byte, size))
				}
				b.ReportMetric(10000*float64(b.N)/b.Elapsed().Seconds(), "files/s")
				b.ReportMetric((cpu()-start).Seconds()/float64(b.N), "cpu-s/10k")
			})
		}
	}
}

func smallFiles(b *testing.B, parent string, content []byte) {
	b.Helper()
	dir, err := os.MkdirTemp(parent, "")
	if err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= 10000; i = next.Add(1) {
				if err := small(dir, i, content); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := (Owner{}).SyncDir(dir); err != nil {
		b.Fatal(err)
	}
}

func small(dir string, i int64, content []byte) error {
	part := filepath.Join(dir, fmt.Sprintf(".%d.part", i))
	p, err := Open(context.Background(), part, Options{Size: int64(len(content))})
	if err != nil {
		return err
	}
	n := copy(p.Space(), content)
	if err := p.Advance(n); err != nil {
		return err
	}
	if err := p.Finish(time.Unix(1e9, 0)); err != nil {
		return err
	}
	if err := p.Close(); err != nil {
		return err
	}
	return (Owner{}).Place(part, filepath.Join(dir, fmt.Sprint(i)), p.Inode())
}
