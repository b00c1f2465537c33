package servers

import (
	"crypto/md5"  //nolint:gosec // as htdigest writes it
	"crypto/sha1" //nolint:gosec // as htpasswd -s writes it
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
)

// Asks is what a server, or a proxy, asks of its clients before it serves them.
type Asks struct {
	// Scheme is Basic, Digest, Negotiate, NTLM, or Bearer, whose token is Password. nginx has Basic only, Squid
	// neither NTLM nor Bearer, Apache no Bearer.
	Scheme string
	// User and Password are who is served, but with Negotiate, where Realm knows.
	User, Password string
	// Realm is that of Negotiate.
	Realm *Realm
}

const authRealm = "ebb tests"

// writeAuth writes what Options.Asks needs into the server's directory.
func (c config) writeAuth() error {
	a := c.Asks
	if a == nil {
		return nil
	}
	sum := sha1.Sum([]byte(a.Password))                                            //nolint:gosec // see above
	ha1 := hex.EncodeToString(md5sum(a.User + ":" + authRealm + ":" + a.Password)) // HA1 of RFC 7616
	for name, text := range map[string]string{
		"basic":  a.User + ":{SHA}" + base64.StdEncoding.EncodeToString(sum[:]),
		"md5":    a.User + ":" + hex.EncodeToString(md5sum(a.Password)),
		"digest": a.User + ":" + authRealm + ":" + ha1,
		"ntlm":   "EBB:" + a.User + ":" + a.Password,
	} {
		if err := os.WriteFile(filepath.Join(c.state, name), []byte(text+"\n"), 0o644); err != nil { //nolint:gosec // for helpers without rights
			return err
		}
	}
	return os.Chmod(c.state, 0o755) //nolint:gosec // the same
}

func md5sum(s string) []byte {
	sum := md5.Sum([]byte(s)) //nolint:gosec // see above
	return sum[:]
}

// env is what the server's process needs to know who is who.
func (c config) env() []string {
	if c.Asks == nil {
		return nil
	}
	env := []string{"NTLM_USER_FILE=" + filepath.Join(c.state, "ntlm"), "KRB5RCACHENAME=none:"}
	if r := c.Asks.Realm; r != nil {
		env = append(env, "KRB5_CONFIG="+r.Config, "KRB5_KTNAME="+r.Keytab)
	}
	return env
}

// lacksAsks names the scheme that a server has not.
func lacksAsks(o Options, has ...string) string {
	if o.Asks == nil {
		return ""
	}
	for _, s := range has {
		if s == o.Asks.Scheme {
			return ""
		}
	}
	return o.Asks.Scheme
}

var squid = kind{
	name: "Squid", program: "squid", pkg: "squid", log: "access.log", refusesRoot: true,
	lacks: func(o Options) string {
		if o.TLS || o.RateLimit > 0 || o.Uploads || o.Proxy != "" {
			return "such option"
		}
		return lacksAsks(o, "Basic", "Digest", "Negotiate")
	},
	parse: parseTabs,
	prepare: func(c config) ([]string, error) {
		name, err := c.write("squid.conf", squidConf)
		if err == nil && c.Name != "" {
			err = os.WriteFile(filepath.Join(c.state, "hosts"), []byte("127.0.0.1 "+c.Name+"\n"), 0o600)
		}
		if err == nil && c.root {
			err = chownAll(c.state, 65534)
		}
		return []string{"-N", "-f", name}, err
	},
}

// Squid would take memory for as many connections as the machine allows.
var squidConf = template.Must(template.New("squid").Parse(`
http_port 127.0.0.1:{{.Port}}
visible_hostname localhost
pid_filename {{.State}}/squid.pid
coredump_dir {{.State}}
cache_log {{.ErrorLog}}
{{if .AccessLog}}logformat ebb %rm	%>Hs	%<st	%{Range}>h	%ru
access_log stdio:{{.Log}} ebb{{else}}access_log none{{end}}
cache_store_log none
netdb_filename none
pinger_enable off
{{if .Name}}hosts_file {{.State}}/hosts
{{end}}cache deny all
max_filedescriptors 1024
shutdown_lifetime 0 seconds
{{with .Asks}}{{if eq .Scheme "Basic"}}auth_param basic program /usr/lib/squid/basic_ncsa_auth {{$.State}}/md5
auth_param basic realm {{$.AuthRealm}}
{{else if eq .Scheme "Digest"}}auth_param digest program /usr/lib/squid/digest_file_auth -c {{$.State}}/digest
auth_param digest realm {{$.AuthRealm}}
{{else}}auth_param negotiate program /usr/lib/squid/negotiate_kerberos_auth -k {{.Realm.Keytab}} -s GSS_C_NO_NAME
auth_param negotiate children 2 startup=1
{{end}}acl known proxy_auth REQUIRED
http_access allow known
http_access deny all{{else}}http_access allow all{{end}}
`))

// Squid starts Squid as a proxy to everywhere. It keeps nothing.
func Squid(o Options) (*Server, error) { return start(squid, os.TempDir(), o) }

func chownAll(dir string, uid int) error {
	return filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chown(name, uid, uid)
	})
}

// Realm is a Kerberos realm, EBB.TEST, with a KDC of its own.
type Realm struct {
	*Server
	Config string // its krb5.conf
	Keytab string // with the key of HTTP/localhost
}

// Kerberos starts the KDC of a realm with users and their passwords, and the service
// HTTP/localhost.
func Kerberos(users map[string]string) (*Realm, error) {
	r := &Realm{}
	k := kind{
		name: "the Kerberos KDC", program: "krb5kdc", pkg: "krb5-kdc", log: "kdc.log",
		lacks: func(Options) string { return "" },
		parse: parseTabs,
		prepare: func(c config) ([]string, error) {
			r.Config, r.Keytab = filepath.Join(c.state, "krb5.conf"), filepath.Join(c.state, "http.keytab")
			return []string{"-n"}, r.prepare(c, users)
		},
	}
	s, err := build(k, os.TempDir(), Options{})
	if err != nil {
		return nil, fmt.Errorf("make a Kerberos realm: %w", err)
	}
	r.Server, s.env = s, r.env()
	if err := s.Restart(); err != nil {
		s.Close()
		return nil, err
	}
	return r, nil
}

func (r *Realm) env() []string {
	return []string{"KRB5_CONFIG=" + r.Config, "KRB5_KDC_PROFILE=" + filepath.Join(filepath.Dir(r.Config), "kdc.conf")}
}

func (r *Realm) prepare(c config, users map[string]string) error {
	if _, err := c.write("krb5.conf", krb5Conf); err != nil {
		return err
	}
	if _, err := c.write("kdc.conf", kdcConf); err != nil {
		return err
	}
	if err := r.run("", "kdb5_util", "create", "-s", "-r", "EBB.TEST", "-P", "master"); err != nil {
		return err
	}
	var commands strings.Builder // not arguments, in which a test may look for passwords
	for user, password := range users {
		fmt.Fprintf(&commands, "addprinc -pw \"%s\" %s\n", password, user)
	}
	fmt.Fprintf(&commands, "addprinc -randkey HTTP/localhost\nktadd -k %s HTTP/localhost\n", r.Keytab)
	if err := r.run(commands.String(), "kadmin.local"); err != nil {
		return err
	}
	for name, mode := range map[string]os.FileMode{c.state: 0o755, r.Config: 0o644, r.Keytab: 0o644} {
		if err := os.Chmod(name, mode); err != nil {
			return err
		}
	}
	return nil
}

// run runs a tool of Kerberos.
func (r *Realm) run(input string, args ...string) error {
	program := args[0]
	for _, dir := range []string{"", "/usr/sbin/", "/usr/bin/"} {
		if path, err := exec.LookPath(dir + args[0]); err == nil {
			program = path
			break
		}
	}
	cmd := exec.Command(program, args[1:]...)
	cmd.Env, cmd.Stdin = append(os.Environ(), r.env()...), strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return nil
}

// Kinit gets the tickets of a user into a file.
func (r *Realm) Kinit(user, password, cache string) error {
	return r.run(password+"\n", "kinit", "-c", "FILE:"+cache, user)
}

var krb5Conf = template.Must(template.New("krb5").Parse(`
[libdefaults]
	default_realm = EBB.TEST
	dns_lookup_kdc = false
	dns_lookup_realm = false
	dns_canonicalize_hostname = false
	rdns = false
	udp_preference_limit = 1
[realms]
	EBB.TEST = {
		kdc = 127.0.0.1:{{.Port}}
	}
[domain_realm]
	localhost = EBB.TEST
`))

var kdcConf = template.Must(template.New("kdc").Parse(`
[kdcdefaults]
	kdc_listen = ""
	kdc_tcp_listen = 127.0.0.1:{{.Port}}
[realms]
	EBB.TEST = {
		database_name = {{.State}}/principal
		key_stash_file = {{.State}}/stash
		acl_file = {{.State}}/acl
		max_life = 1h
		supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
	}
[logging]
	kdc = STDERR
`))
