package api

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

// TestCommittedOpenAPI keeps the document in the repository equal to what the service serves.
func TestCommittedOpenAPI(t *testing.T) {
	doc, err := OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("..", "..", "docs", "openapi.json")
	if *update {
		if err := os.WriteFile(name, doc, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(doc, committed) {
		t.Error("docs/openapi.json is old: go test ./internal/api -run OpenAPI -update")
	}
}
