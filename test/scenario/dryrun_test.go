package scenario

import (
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/test/faultserver"
)

// TestDryRun: --dry-run changes nothing, and ends as the real call does that follows.
func TestDryRun(t *testing.T) {
	t.Parallel()
	s := start(t, options{config: "[notify]\nhooks = \"none\"\n"})
	srv := serve(t, faultserver.Options{})
	e := srv.File("/f", faultserver.File{Seed: 1, Size: 10 * kib})
	s.create(fetched{name: "one", waits: true, files: []bits.FileSpec{s.file(e.URL(), "one")}})
	s.create(fetched{name: "two", waits: true})
	s.create(fetched{name: "parts", waits: true, files: []bits.FileSpec{{Remote: e.URL(), Local: s.dir + "/parts", Ranges: []bits.Range{{Offset: 0, Length: 10}}}}})
	ended := s.create(fetched{name: "ended", files: []bits.FileSpec{s.file(e.URL(), "ended")}})
	s.settled(ended, bits.Transferred)
	s.complete(ended)
	done := s.create(fetched{name: "done", files: []bits.FileSpec{s.file(e.URL(), "done")}})
	s.settled(done, bits.Transferred)
	s.text("headers", "X-Secret: geheim\n")

	for _, c := range []struct {
		args string
		code int
		says string // of the dry run
	}{
		{"set one priority=low description=geheim", 0, "would change "},
		{"set one --from " + s.text("properties", "http_method=POST\n"), 0, ": http_method"},
		{"set one on_demand=true", 1, "BG_E_NOT_SUPPORTED_WITH_CUSTOM_HTTP_METHOD"},
		{"set one notify_url=https://h/geheim", 5, "notify.hooks"},
		{"set one reply_file=" + s.dir + "/r", 2, "E_NOTIMPL"},
		{"set parts http_method=POST", 1, "BG_E_"},
		{"set ended priority=low", 6, "BG_E_INVALID_STATE"},
		{"set one priority=lowest", 2, "priority"},
		{"set done on_demand=true", 6, "BG_E_READ_ONLY_PROPERTY_AFTER_RESUME"},
		{"headers set one --from " + s.dir + "/headers", 0, "would change "},
		{"headers clear one", 0, "would change "},
		{"credentials remove one server basic", 0, "would change "},
		{"file url one 0 " + srv.URL() + "/g", 0, "file 0, /"},
		{"file url one 0 " + srv.URL() + "/g", 0, "nothing to change"},
		{"file url one 0 gopher://h/", 2, ""},
		{"file url one 7 " + srv.URL() + "/h", 1, "no file"},
		{"file url ended 0 " + srv.URL() + "/g", 6, "BG_E_INVALID_STATE"},
		{"file skip one 0", 0, "file 0, /"},
		{"file position one 0 4096", 1, "BG_E_RANDOM_ACCESS_NOT_SUPPORTED"},
		{"file position done 0 9999999", 0, ""},
		{"file ranges one 0 5", 2, "is not a range"},
		{"file ranges parts 0 20:30", 0, "file 0, /"},
		{"file validate one 0 wrong", 6, "E_PENDING"},
		{"replace-prefix one " + srv.URL() + " ftp://h", 2, "E_INVALIDARG"},
		{"replace-prefix one " + srv.URL() + " https://h", 0, "https://h/g\t/"},
		{"replace-prefix one https://other/ https://h/", 0, "nothing to change"},
		{"replace-prefix ended " + srv.URL() + " https://h", 6, "BG_E_INVALID_STATE"},
		{"add two " + e.URL() + " " + s.dir + "/two", 0, e.URL() + "\t/"},
		{"add two " + e.URL() + " " + s.dir + "/two", 2, "E_INVALIDARG"},
		{"add ended " + e.URL() + " " + s.dir + "/x", 6, "BG_E_INVALID_STATE"},
		{"suspend ended", 6, "BG_E_INVALID_STATE"},
		{"complete done", 0, "would be completed: "},
		{"complete done", 6, "BG_E_INVALID_STATE"},
		{"own one", 0, "would be taken over: "},
		{"cancel one", 0, " one (SUSPENDED, 1 of 1 file"},
		{"cancel one", 6, "BG_E_INVALID_STATE"},
		{"create --set header=Authorization:geheim --priority low three", 0, "would create three (DOWNLOAD): priority, header\n"},
		{"create --type upload --set on_demand=true four", 1, "only downloads have on_demand"},
		{"create --protocol tus four", 2, "E_NOTIMPL"},
		{"create --set notify_url=https://h/geheim four", 5, "notify.hooks"},
		{"resume two", 0, "would be resumed: "}, // the last one: from now on things change by themselves
	} {
		before := s.cli("list", "--json").want(t, 0).out
		dry := s.cli(append(strings.Fields(c.args), "--dry-run")...)
		if after := s.cli("list", "--json").want(t, 0).out; after != before {
			t.Errorf("%s --dry-run: the jobs are\n%s, they were\n%s", c.args, after, before)
		}
		if strings.Contains(dry.out+dry.err, "geheim") || !strings.Contains(dry.out+dry.err, c.says) {
			t.Errorf("%s --dry-run says\n%s%s, want %q", c.args, dry.out, dry.err, c.says)
		}
		real := s.cli(strings.Fields(c.args)...)
		if real.code != dry.code || real.code != c.code || c.code != 0 && real.err != dry.err {
			t.Errorf("%s ends with %d, and %d as a dry run; want %d\n%s%s", c.args, real.code, dry.code, c.code, real.err, dry.err)
		}
	}
}
