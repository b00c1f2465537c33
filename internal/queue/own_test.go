package queue

import (
	"reflect"
	"testing"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/internal/store"
)

// What only the old owner may use goes, and is told; what was told to whom stays (client.md 3.4).
func TestForget(t *testing.T) {
	one := "1"
	for _, c := range []struct {
		name     string
		has, got store.Detail
		dropped  []string
	}{
		{"nothing", store.Detail{Description: "d"}, store.Detail{Description: "d"}, nil},
		{"all", store.Detail{
			Secrets:           []store.Secret{{Kind: secretCredential}, {Kind: secretHeaders}},
			ClientCertificate: &bits.ClientCertificate{},
			HeaderNames:       []string{"X-Secret"},
			Options:           &bits.Options{NotifyCommand: &[]string{"/bin/true"}, NotifyURL: &one, UseStoredCredentials: new(bits.TargetProxy), HTTPMethod: &one},
		}, store.Detail{Options: &bits.Options{HTTPMethod: &one}},
			[]string{"credentials", "client_certificate", "headers", "notify_command", "notify_url", "use_stored_credentials"}},
		{"a password in a URL", store.Detail{Secrets: []store.Secret{{Kind: secretURL}}}, store.Detail{}, []string{"credentials"}},
		{"what a command said", store.Detail{Notice: &store.Notice{Due: 7, Told: 1, Failed: 2, Retry: 9, Error: "its output"}}, store.Detail{Notice: &store.Notice{Due: 7, Told: 1}}, nil},
		{"nobody was told yet", store.Detail{Notice: &store.Notice{Failed: 1}}, store.Detail{}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if dropped := forget(&c.has); !reflect.DeepEqual(dropped, c.dropped) || !reflect.DeepEqual(c.has, c.got) {
				t.Errorf("dropped %q and left %+v, want %q and %+v", dropped, c.has, c.dropped, c.got)
			}
		})
	}
}
