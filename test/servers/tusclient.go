package servers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// TusUpload is an upload by tus-js-client, the client of the tus protocol's authors.
type TusUpload struct {
	Endpoint string            `json:"endpoint"`
	File     string            `json:"file"`
	Name     string            `json:"name,omitempty"` // metadata "filename"
	Headers  map[string]string `json:"headers,omitempty"`

	Chunk    int64 `json:"chunk,omitempty"`    // bytes in a request; 0 is no limit
	Parallel int   `json:"parallel,omitempty"` // parts
	AtOnce   bool  `json:"atOnce,omitempty"`   // bytes with the creation
	Deferred bool  `json:"deferred,omitempty"` // the length comes at the end; needs Chunk
	Override bool  `json:"override,omitempty"` // POST for PATCH

	// Pauses is how often the client breaks off while it sends. It goes on if Again is set, deletes the
	// upload if Terminate is, and ends otherwise.
	Pauses    int  `json:"pauses,omitempty"`
	Again     bool `json:"again,omitempty"`
	Terminate bool `json:"terminate,omitempty"`

	// Storage is a file in which the client keeps what it needs to go on another time.
	Storage string `json:"storage,omitempty"`
}

// TusUploaded is how an upload went.
type TusUploaded struct {
	URL      string
	Requests []struct {
		Method, URL string
		Status      int
		Offset      string // of the Upload-Offset that was sent
	}
	Error string // of the client, such as about an answer
}

// Run runs the client. Its first run installs it in the user's cache directory.
func (u TusUpload) Run(ctx context.Context) (*TusUploaded, error) {
	node, err := exec.LookPath("node")
	if err != nil {
		return nil, notInstalled("node", "apt-get install nodejs npm")
	}
	installed, err := npm("tusclient")
	if err != nil {
		return nil, err
	}
	args, err := json.Marshal(u)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, node, filepath.Join(installed, "upload.mjs"), string(args))
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("tus-js-client: %w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return nil, err
	}
	var done TusUploaded
	if err := json.NewDecoder(bytes.NewReader(out)).Decode(&done); err != nil {
		return nil, fmt.Errorf("tus-js-client said %q: %w", out, err)
	}
	return &done, nil
}
