package bits

import (
	"encoding/json"
	"testing"
)

// TestSizesOfBITS: its limits are UINT64, of which 2^64-1 is BG_SIZE_UNKNOWN.
func TestSizesOfBITS(t *testing.T) {
	for text, want := range map[string]SizeLimit{"0": 0, "9223372036854775807": 1<<63 - 1, "9223372036854775808": 0, "18446744073709551615": 0} {
		var s Settings
		if err := s.Set("maximum_download_size", text); err != nil || *s.MaximumDownloadSize != want {
			t.Errorf("%s: %v, want %d", text, err, want)
		}
		s = Settings{}
		if err := json.Unmarshal([]byte(`{"maximum_download_size":`+text+`}`), &s); err != nil || *s.MaximumDownloadSize != want {
			t.Errorf("%s as JSON: %v, want %d", text, err, want)
		}
	}
	for _, text := range []string{"18446744073709551616", "x", ""} {
		if err := new(Settings).Set("maximum_download_size", text); err == nil {
			t.Errorf("%q is taken", text)
		}
		if err := json.Unmarshal([]byte(`{"maximum_download_size":`+text+`}`), new(Settings)); err == nil {
			t.Errorf("%q is taken as JSON", text)
		}
	}
}
