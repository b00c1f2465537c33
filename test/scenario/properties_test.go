package scenario

import (
	"slices"
	"strings"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
)

// TestPropertiesSurviveKill sets all properties on the command line, at creation and after, and
// finds them as they were once the service was killed. A row of the table without a value here
// fails.
func TestPropertiesSurviveKill(t *testing.T) {
	s := start(t, options{})
	first := []string{"http_method=POST", "high_performance=true", "maximum_download_size=1000", "run_when=logged-on"}
	args := []string{"create"}
	for _, p := range first {
		args = append(args, "--set", p)
	}
	id := strings.TrimSpace(s.cli(append(args, "ours")...).want(t, 0).out)
	rest := []string{"name=theirs", "description=a text", "minimum_retry_delay=60", "no_progress_timeout=120", "maximum_download_time=7200", "connections=2", "auto_complete=true",
		"transfer_policy=no-surcharge", "header=X-Site: 7", "headers_write_only=true", "security_flags=crl-check|redirect-deny", "tls_min_version=1.3",
		"tls_pins=sha256/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "proxy=override http://p:3128,q *.example.org,<local>", "use_stored_credentials=PROXY",
		"notify_flags=error|modification", "notify_command=/bin/true 'a b' c", "notify_url=https://hook.example.org/x", "notify_desktop=true", "minimum_notification_interval=2000",
		"only_if_newer=true", "verify_certificates=true", "acl_flags=owner|dacl", "peer_caching_flags=client|server"}
	s.cli(append([]string{"set", id}, rest...)...).want(t, 0)

	want := slices.Concat(first, rest, []string{"priority=FOREGROUND"}) // which http_method makes it
	want[slices.Index(want, "header=X-Site: 7")] = "header=X-Site"      // values are never shown
	check := func(when string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(s.cli("show", "--properties", id).want(t, 0).out), "\n")
		for _, p := range bits.PropertyTable {
			i := slices.IndexFunc(want, func(w string) bool { return strings.HasPrefix(w, p.Name+"=") })
			if i < 0 {
				switch p.Name {
				case "protocol", "reply_file", "dynamic_content", "on_demand": // of uploads, or not together with http_method
					continue
				}
				t.Errorf("this test has no value for %s", p.Name)
				continue
			}
			if !slices.Contains(lines, want[i]) {
				t.Errorf("%s, there is no %q in\n%s", when, want[i], strings.Join(lines, "\n"))
			}
		}
	}
	check("before")
	s.restart()
	check("after the service was killed")
	text := s.cli("show", id).want(t, 0).out
	for _, part := range []string{"http method", "POST", "notify url", "tls pins", "run when", "logged-on"} {
		if !strings.Contains(text, part) {
			t.Errorf("show lacks %q:\n%s", part, text)
		}
	}
	if strings.Contains(text, "dynamic content") {
		t.Errorf("show tells what is at its default:\n%s", text)
	}
	// What is refused changes nothing, and says why.
	out := s.cli("set", id, "description=other", "proxy=override").want(t, 2)
	if !strings.Contains(out.err, "needs a list of proxies") {
		t.Errorf("%q does not say why", out.err)
	}
	check("after a refusal")
}
