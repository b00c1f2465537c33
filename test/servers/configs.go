package servers

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"
)

var nginx = kind{
	name: "nginx", program: "nginx", pkg: "nginx", log: "access.log",
	lacks: func(o Options) string {
		if o.Forward {
			return "way to be a proxy to everywhere"
		}
		return lacksAsks(o, "Basic", "Bearer")
	},
	parse: parseTabs,
	prepare: func(c config) ([]string, error) {
		name, err := c.write("nginx.conf", nginxConf)
		// -e: before it has read the configuration it would write to /var/log.
		return []string{"-c", name, "-p", c.state, "-e", c.errorLog}, err
	},
}

// Without user, nginx's worker is nobody and cannot read a private directory of root.
var nginxConf = template.Must(template.New("nginx").Parse(`
daemon off;
worker_processes 1;
{{if .Root}}user root;{{end}}
pid nginx.pid;
error_log "{{.ErrorLog}}" warn;
events { worker_connections 4096; }
http {
	default_type application/octet-stream;
	client_body_temp_path {{if .Uploads}}"{{.Bodies}}"{{else}}body{{end}};
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000;
	log_format ebb "$request_method\t$status\t$body_bytes_sent\t$http_range\t$uri";
	access_log {{if .AccessLog}}"{{.Log}}" ebb{{else}}off{{end}};
	{{if .RateLimit}}limit_rate {{.RateLimit}};{{end}}
	server {
		listen 127.0.0.1:{{.Port}}{{if .TLS}} ssl{{end}}{{if .HTTP2}} http2{{end}};
		{{if .TLS}}ssl_certificate "{{.Cert}}"; ssl_certificate_key "{{.Key}}";{{end}}
		{{if .ClientCA}}ssl_client_certificate "{{.ClientCA}}"; ssl_verify_client on;{{end}}
		root "{{.Dir}}";
		{{with .Asks}}{{if eq .Scheme "Bearer"}}if ($http_authorization != "Bearer {{.Password}}") { return 401; }
		error_page 401 @asks;
		location @asks { internal; add_header WWW-Authenticate 'Bearer realm="{{$.AuthRealm}}"' always; return 401; }
		{{else}}auth_basic "{{$.AuthRealm}}"; auth_basic_user_file "{{$.State}}/basic";{{end}}{{end}}
		{{if .Uploads}}dav_methods PUT DELETE;
		client_max_body_size {{.BodyLimit}};{{end}}
		{{if .Proxy}}location / { proxy_pass {{.Proxy}};
			{{if .ProxyStreams}}proxy_http_version 1.1; proxy_request_buffering off; client_max_body_size 0;{{end}} }{{end}}
	}
}
`))

var apache = kind{
	name: "Apache", program: "apache2", pkg: "apache2", log: "access.log", refusesRoot: true,
	lacks: func(o Options) string { return lacksAsks(o, "Basic", "Digest", "Negotiate", "NTLM") },
	parse: parseTabs,
	prepare: func(c config) ([]string, error) {
		name, err := c.write("apache.conf", apacheConf)
		return []string{"-DFOREGROUND", "-d", c.state, "-f", name}, err
	},
}

// Apache marks an ETag as weak as long as the file is younger than a second. MaxRanges and the
// like stay as they are: the point is to meet servers as they are installed.
var apacheConf = template.Must(template.New("apache").Parse(`
ServerName 127.0.0.1
Listen 127.0.0.1:{{.Port}}
PidFile apache.pid
DefaultRuntimeDir "{{.State}}"
Mutex pthread
ErrorLog "{{.ErrorLog}}"
{{range .Modules}}LoadModule {{.}}_module /usr/lib/apache2/modules/mod_{{.}}.so
{{end}}
MaxKeepAliveRequests 0
DocumentRoot "{{.Dir}}"
{{if .Uploads}}DavLockDB "{{.State}}/davlocks"
LimitRequestBody {{.BodyLimit}}{{end}}
{{if .Proxy}}ProxyPass "/" "{{.Proxy}}/"
RequestHeader unset Authorization
<Location "/">{{else if .Forward}}ProxyRequests On
ProxyVia Off
AllowCONNECT 1-65535
<Proxy "*">{{else}}<Directory "{{.Dir}}">{{end}}
	{{if .Uploads}}Dav On{{end}}
	{{with .Asks}}Require valid-user
	AuthName "{{$.AuthRealm}}"
	{{if eq .Scheme "Basic"}}AuthType Basic
	AuthUserFile "{{$.State}}/basic"{{else if eq .Scheme "Digest"}}AuthType Digest
	AuthUserFile "{{$.State}}/digest"{{else if eq .Scheme "NTLM"}}AuthType GSSAPI
	GssapiAllowedMech ntlmssp
	GssapiConnectionBound On{{else}}AuthType GSSAPI
	GssapiAllowedMech krb5
	GssapiCredStore "keytab:{{.Realm.Keytab}}"{{end}}{{else}}Require all granted{{end}}
	{{if .RateLimit}}SetOutputFilter RATE_LIMIT
	SetEnv rate-limit {{.RateLimitKiB}}{{end}}
</{{if .Proxy}}Location{{else if .Forward}}Proxy{{else}}Directory{{end}}>
{{if .AccessLog}}LogFormat "%m\t%>s\t%B\t%{Range}i\t%U" ebb
CustomLog "{{.Log}}" ebb{{end}}
{{if .TLS}}SSLEngine on
SSLCertificateFile "{{.Cert}}"
SSLCertificateKeyFile "{{.Key}}"{{end}}
Protocols {{if .HTTP2}}h2 {{end}}http/1.1
`))

var caddy = kind{
	name: "Caddy", program: "caddy", pkg: "caddy", log: "access.log",
	lacks: func(o Options) string {
		if o.RateLimit > 0 {
			return "rate limit"
		}
		return lacksUploads(o)
	},
	parse: parseCaddy,
	prepare: func(c config) ([]string, error) {
		name, err := c.write("Caddyfile", caddyfile)
		return []string{"run", "--config", name, "--adapter", "caddyfile"}, err
	},
}

var caddyfile = template.Must(template.New("caddy").Parse(`
{
	admin off
	auto_https off
	storage file_system "{{.State}}"
	servers {
		protocols h1{{if .HTTP2}} h2{{end}}
	}
}
{{if .TLS}}https{{else}}http{{end}}://127.0.0.1:{{.Port}} {
	bind 127.0.0.1
	{{if .TLS}}tls "{{.Cert}}" "{{.Key}}"{{end}}
	{{if .AccessLog}}log {
		output file "{{.Log}}"
		format json
	}{{end}}
	root * "{{.Dir}}"
	file_server
}
`))

var python = kind{
	name: "Python's http.server", program: "python3", pkg: "python3", log: "error.log",
	lacks: func(o Options) string {
		switch {
		case o.TLS:
			return "TLS"
		case o.RateLimit > 0:
			return "rate limit"
		}
		return lacksUploads(o)
	},
	parse: parsePython,
	prepare: func(c config) ([]string, error) {
		// -u: its log is its standard error, which must not wait in a buffer.
		return []string{"-u", "-m", "http.server", strconv.Itoa(c.port), "--bind", "127.0.0.1", "--directory", c.dir}, nil
	},
}

func lacksUploads(o Options) string {
	switch {
	case o.ClientCA != "":
		return "client certificates"
	case o.Uploads:
		return "uploads"
	case o.Proxy != "":
		return "a proxy"
	}
	return lacksAsks(o)
}

// write writes a configuration and returns its name.
func (c config) write(name string, t *template.Template) (string, error) {
	var text strings.Builder
	if err := t.Execute(&text, c.values()); err != nil {
		return "", err
	}
	path := filepath.Join(c.state, name)
	return path, os.WriteFile(path, []byte(text.String()), 0o600)
}

// values are what the templates can use.
func (c config) values() map[string]any {
	modules := []string{"mpm_event", "authz_core"} // the rest is built in
	if c.TLS {
		modules = append(modules, "ssl")
	}
	if c.HTTP2 {
		modules = append(modules, "http2")
	}
	if c.RateLimit > 0 {
		modules = append(modules, "env", "ratelimit")
	}
	if c.Uploads {
		modules = append(modules, "dav", "dav_fs")
	}
	if c.Proxy != "" {
		modules = append(modules, "proxy", "proxy_http", "headers")
	}
	if c.Forward {
		modules = append(modules, "proxy", "proxy_http", "proxy_connect")
	}
	if c.Asks != nil {
		modules = append(modules, "authn_core", "authz_user")
		switch c.Asks.Scheme {
		case "Basic":
			modules = append(modules, "auth_basic", "authn_file")
		case "Digest":
			modules = append(modules, "auth_digest", "authn_file")
		default:
			modules = append(modules, "auth_gssapi")
		}
	}
	return map[string]any{
		"Asks": c.Asks, "Name": c.Name, "AuthRealm": authRealm,
		"Dir": c.dir, "State": c.state, "Bodies": c.bodies, "Port": c.port, "Cert": c.cert, "Key": c.key, "Root": c.root,
		"Log": c.log, "ErrorLog": c.errorLog, "TLS": c.TLS, "HTTP2": c.HTTP2, "AccessLog": c.AccessLog,
		"ClientCA": c.ClientCA, "Uploads": c.Uploads, "BodyLimit": c.BodyLimit, "Forward": c.Forward, "Proxy": c.Proxy, "ProxyStreams": c.ProxyStreams,
		"RateLimit": c.RateLimit, "RateLimitKiB": (c.RateLimit + 1023) / 1024, "Modules": modules,
	}
}
