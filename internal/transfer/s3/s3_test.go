package s3

import (
	"errors"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/governor"
)

func TestParseURL(t *testing.T) {
	tests := []struct {
		in, bucket, key string
		ok              bool
	}{
		{"s3://b/k", "b", "k", true},
		{"s3://b/a/%C3%A4%20%3F", "b", "a/ä ?", true},
		{"s3://b/a//b", "b", "a//b", true},
		{"s3://b/../k", "b", "../k", true},
		{"s3://b", "", "", false}, {"s3://b/", "", "", false}, {"s3:///k", "", "", false}, {"s3://b/d/", "", "", false},
		{"s3://u:p@b/k", "", "", false}, {"s3://b:1/k", "", "", false}, {"s3://b/k?x", "", "", false}, {"s3://b/k#x", "", "", false},
		{"http://b/k", "", "", false}, {"s3://b/%zz", "", "", false},
	}
	for _, tt := range tests {
		bucket, key, err := parseURL(tt.in)
		if bucket != tt.bucket || key != tt.key || (err == nil) != tt.ok {
			t.Errorf("parseURL(%q) = %q, %q, %v", tt.in, bucket, key, err)
		}
		if err != nil && !errors.Is(err, &bits.Error{Code: bits.InvalidArg}) {
			t.Errorf("parseURL(%q): %v", tt.in, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("s3://b/k")
	f.Add("s3://b/%2e%2e/k?x")
	f.Fuzz(func(t *testing.T, s string) {
		bucket, key, err := parseURL(s)
		if err == nil && (bucket == "" || key == "" || len(key) > 1024) {
			t.Errorf("%q: %q, %q", s, bucket, key)
		}
	})
}

func TestPartSize(t *testing.T) {
	for _, class := range []governor.Class{governor.Foreground, governor.Background} {
		for _, size := range []int64{wholeSize + 1, 1 << 30, 50 << 30, 200 << 30, 5 << 40, 40 << 40} {
			n := partSize(size, class)
			parts := (size + n - 1) / n
			if n < leastPart || n > mostPart || parts > maxParts {
				t.Errorf("%d bytes: %d parts of %d", size, parts, n)
			}
		}
	}
	if got := partSize(1<<30, governor.Background); got != leastPart {
		t.Errorf("a part in the background has %d bytes", got)
	}
}

// TestObjectTag: the MD5 of the parts' MD5s, and their number.
func TestObjectTag(t *testing.T) {
	const empty = `"d41d8cd98f00b204e9800998ecf8427e"`
	if got := objectTag([]string{empty, empty}); got != "5873dd45edd01f09c1ef2e7819369e8e-2" {
		t.Errorf("got %s", got)
	}
	for _, bad := range []string{"", `"x"`, `"d41d8cd98f00b204e9800998ecf8427e-2"`} {
		if got := objectTag([]string{empty, bad}); got != "" {
			t.Errorf("%q: got %s", bad, got)
		}
	}
}
