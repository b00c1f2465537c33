package main

import (
	"os"
	"path/filepath"
	"testing"
)

// Temporary credentials are three texts, and of no use without the third.
func TestCredentialsOfTheEnvironment(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_SESSION_TOKEN", "token")
	file := filepath.Join(t.TempDir(), "serve.toml")
	text := "[[group]]\npath = \"/\"\nuploads = { storage = \"s3://bucket\" }\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f := serveFlags{config: file}
	c, err := f.load()
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Groups[0].Uploads.Storage; s.AccessKey != "key" || s.SecretKey != "secret" || s.Token != "token" {
		t.Errorf("got %+v", s)
	}
}
