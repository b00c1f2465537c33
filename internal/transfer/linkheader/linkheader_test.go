package linkheader

import (
	"net/http"
	"net/url"
	"slices"
	"testing"
)

func TestDuplicates(t *testing.T) {
	base, _ := url.Parse("https://example.org/pub/a.iso")
	for _, c := range []struct {
		name string
		link []string
		want []string
	}{
		{"none", nil, nil},
		{"by priority", []string{`<https://b/a>; rel=duplicate; pri=2, <https://c/a>; rel="duplicate"; pri=1`, `<https://d/a>; rel=duplicate`}, []string{"https://c/a", "https://b/a", "https://d/a"}},
		{"relative, with a comma", []string{`<../m/a,b.iso>; rel="other duplicate"`}, []string{"https://example.org/m/a,b.iso"}},
		{"other relations", []string{`<https://b/a>; rel=describedby; type="application/metalink4+xml", <https://c/a>; rel=next`}, nil},
		{"twice", []string{`<https://b/a>; rel=duplicate,<https://b/a#x>; rel=duplicate`}, []string{"https://b/a"}},
		{"the first rel counts", []string{`<https://b/a>; rel=next; rel=duplicate`}, nil},
		{"malformed", []string{`https://b/a; rel=duplicate`, `<https://b/a; rel=duplicate`, `<https://b/a>; rel="duplicate`}, nil},
	} {
		if got := Duplicates(http.Header{"Link": c.link}, base); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDigest(t *testing.T) {
	const sum, hex = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for _, c := range []struct{ header, value, want string }{
		{"Repr-Digest", "sha-256=:" + sum + ":", hex},
		{"Repr-Digest", "md5=:AAAA:, sha-256=:" + sum + ":;x=1", hex},
		{"Digest", "SHA-256=" + sum, hex},
		{"Repr-Digest", "sha-256=" + sum, ""},
		{"Digest", "sha-256=AAAA", ""},
		{"Content-Digest", "sha-256=:" + sum + ":", ""}, // of this answer, not of the file
	} {
		if got := Digest(http.Header{c.header: {c.value}}); got != c.want {
			t.Errorf("%s: %s: %q, want %q", c.header, c.value, got, c.want)
		}
	}
}

func FuzzLinks(f *testing.F) {
	f.Add(`<https://b/a>; rel=duplicate; pri=2, <c>; rel="x\"y"`, "sha-256=:AAAA:")
	f.Fuzz(func(t *testing.T, link, digest string) {
		h := http.Header{"Link": {link}, "Digest": {digest}, "Repr-Digest": {digest}}
		if n := len(Links(h)); n > maxLinks {
			t.Errorf("%d links", n)
		}
		Duplicates(h, nil)
		Digest(h)
	})
}
