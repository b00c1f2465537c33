package servers

import "strconv"

// Tusd starts tusd, the server of tus's authors, which keeps its uploads in dir and makes them at URL+"/files". Its
// version is in tusd/go.mod.
func Tusd(dir string, o Options) (*Server, error) { return start(tusd, dir, o) }

var tusd = kind{
	name: "tusd", program: "tusd", locate: func() (string, error) {
		return built("tusd", "go -C test/servers/tusd install github.com/tus/tusd/v2/cmd/tusd")
	},
	lacks: func(o Options) string {
		if o != (Options{}) {
			return "options"
		}
		return ""
	},
	prepare: func(c config) ([]string, error) {
		return []string{"-host", "127.0.0.1", "-port", strconv.Itoa(c.port), "-base-path", "/files/", "-upload-dir", c.dir, "-show-greeting=false"}, nil
	},
}
