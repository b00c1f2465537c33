// Command ebb-testserver is the file server of demos and benchmarks. It serves
//
//	/gen/SIZE?seed=N   SIZE bytes of generated content, SIZE as 1000000, 64K, 10M or 1G
//	/small/I?seed=N    the I-th of any number of files of 16 KiB
//
// and, for every other path, the files of a directory if it is given one. All of it supports
// ranges, If-Range and conditional requests.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/test/faultserver"
)

const smallSize = 16 << 10

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "`address` to listen on; port 0 lets the kernel choose")
	rate := flag.String("rate", "0", "limit of each answer in `bytes` a second, like 500K or 200M; 0 is none")
	flag.Usage = func() {
		_, _ = fmt.Fprintln(flag.CommandLine.Output(), "usage: ebb-testserver [--listen ADDRESS] [--rate BYTES] [DIRECTORY]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*listen, *rate, flag.Arg(0)); err != nil {
		fmt.Fprintln(os.Stderr, "ebb-testserver:", err)
		os.Exit(1)
	}
}

// run serves until it is killed.
func run(listen, rate, dir string) error {
	bytesPerSecond, err := parseSize(rate)
	if err != nil {
		return fmt.Errorf("--rate: %w", err)
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	h := handler(dir)
	if bytesPerSecond > 0 {
		h = faultserver.Throttle(h, bytesPerSecond)
	}
	fmt.Printf("http://%s\n", ln.Addr())
	return http.Serve(ln, h)
}

func handler(dir string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /gen/{size}", func(w http.ResponseWriter, r *http.Request) {
		size, err := parseSize(r.PathValue("size"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		serve(w, r, 0, size)
	})
	mux.HandleFunc("GET /small/{number}", func(w http.ResponseWriter, r *http.Request) {
		number, err := strconv.ParseUint(r.PathValue("number"), 10, 32)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		serve(w, r, number+1, smallSize)
	})
	if dir != "" {
		mux.Handle("/", http.FileServer(http.Dir(dir)))
	}
	return mux
}

// serve answers with generated content. Different seeds and numbers give different content.
func serve(w http.ResponseWriter, r *http.Request, number uint64, size int64) {
	seed := uint64(1)
	if s := r.URL.Query().Get("seed"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 32); err != nil {
			http.Error(w, "seed: "+err.Error(), http.StatusBadRequest)
			return
		}
	}
	seed |= number << 32
	w.Header().Set("ETag", fmt.Sprintf(`"%x-%x"`, seed, size))
	w.Header().Set("Content-Type", "application/octet-stream")
	modified := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	http.ServeContent(w, r, "", modified, io.NewSectionReader(faultserver.Content(seed, size), 0, size))
}

// parseSize reads a number of bytes, with K, M or G for powers of 1024.
func parseSize(s string) (int64, error) {
	shift := 0
	if i := len(s) - 1; i > 0 {
		shift = 10 * (1 + strings.IndexByte("KMG", s[i]))
	}
	digits := s
	if shift > 0 {
		digits = s[:len(s)-1]
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1<<50>>shift {
		return 0, fmt.Errorf("%q is not a size: want a number of bytes, or one with K, M or G", s)
	}
	return n << shift, nil
}
