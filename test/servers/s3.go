package servers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// versityVersion is the version of versitygw that tests are written against.
const versityVersion = "v1.8.0"

// The keys and the region of VersityGW.
const (
	S3AccessKey = "ebbtest"
	S3SecretKey = "ebbtestsecret"
	S3Region    = "us-east-1"
)

// VersityGW starts an S3 server whose buckets are the directories in dir.
func VersityGW(dir string, o Options) (*Server, error) { return start(versityGW, dir, o) }

var versityGW = kind{
	name: "versitygw", program: "versitygw", locate: func() (string, error) {
		return built("versitygw", "go install github.com/versity/versitygw/cmd/versitygw@"+versityVersion)
	},
	lacks: func(o Options) string {
		if o != (Options{}) {
			return "options"
		}
		return ""
	},
	prepare: func(c config) ([]string, error) {
		// A sidecar, since not every file system has extended attributes.
		meta := filepath.Join(c.state, "meta")
		if err := os.Mkdir(meta, 0o700); err != nil {
			return nil, err
		}
		return []string{"--access", S3AccessKey, "--secret", S3SecretKey, "--region", S3Region, "--port", fmt.Sprintf("127.0.0.1:%d", c.port),
			"posix", "--sidecar", meta, c.dir}, nil
	},
}

// built returns the path of a program that "go install" makes. It takes minutes to build, so that is left to
// test/all.sh.
func built(program, how string) (string, error) {
	if path, err := exec.LookPath(program); err == nil {
		return path, nil
	}
	if home, err := os.UserHomeDir(); err == nil {
		bin := os.Getenv("GOBIN")
		if bin == "" {
			bin = filepath.Join(home, "go", "bin")
		}
		if path, err := exec.LookPath(filepath.Join(bin, program)); err == nil {
			return path, nil
		}
	}
	return "", notInstalled(program, how)
}
