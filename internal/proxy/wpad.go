package proxy

import (
	"bufio"
	"net/netip"
	"os"
	"strings"
)

// byName returns where the network's script would be by the name of the network (the DNS part of
// WPAD): at the host wpad of each domain in which names are looked up. Domains above those are not
// asked: they may be somebody else's.
func byName(resolvConf string) []string {
	f, err := os.Open(resolvConf)
	if err != nil {
		return nil
	}
	defer f.Close()
	var domains []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 1 && (words[0] == "search" || words[0] == "domain") {
			domains = words[1:] // the last one counts
		}
	}
	var at []string
	for _, d := range domains {
		d = strings.Trim(strings.ToLower(d), ".")
		if _, err := netip.ParseAddr(d); err == nil || !strings.Contains(d, ".") || strings.ContainsAny(d, "/:@?#%\\") || len(at) == 3 {
			continue
		}
		at = append(at, "http://wpad."+d+"/wpad.dat")
	}
	return at
}
