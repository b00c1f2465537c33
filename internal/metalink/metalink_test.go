package metalink

import (
	"bytes"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func doc(files string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">` + files + `</metalink>`
}

func TestParse(t *testing.T) {
	got, err := Parse(strings.NewReader(doc(`
<file name="dir/a.iso"><size>14</size><hash type="md5">00</hash><hash type="sha-256"> ` + strings.ToUpper(sum) + ` </hash>
<pieces length="4" type="sha-256"><hash>00</hash></pieces>
<url priority="2" location="de">http://b/a</url><url>https://c/a</url><url priority="1">https://a/a</url><url>ftp://x/a</url><url>file:///etc/passwd</url><url>https://a/a</url></file>
<file name="b"><url>https://a/b</url></file>`)))
	want := []File{
		{"dir/a.iso", 14, "sha256:" + sum, []string{"https://a/a", "http://b/a", "https://c/a"}},
		{"b", -1, "", []string{"https://a/b"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		doc(""), doc(`<file name="../a"><url>https://a/b</url></file>`), doc(`<file name="/etc/x"><url>https://a/b</url></file>`),
		doc(`<file name="a"><url>ftp://a/b</url></file>`), doc(`<file name="a"><hash type="sha-256">12</hash><url>https://a/b</url></file>`),
		`<metalink xmlns="http://www.metalinker.org/" version="3.0"/>`, "no XML", "",
	} {
		if files, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q gave %+v", bad, files)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(doc(`<file name="a"><size>1</size><hash type="sha-256">` + sum + `</hash><url priority="1">https://a/b</url></file>`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		files, err := Parse(bytes.NewReader(text))
		if err != nil {
			return
		}
		for _, file := range files {
			if !filepath.IsLocal(file.Name) || len(file.URLs) == 0 {
				t.Errorf("%+v", file)
			}
		}
	})
}
