package pccrd

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func ids(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = bytes.Repeat([]byte{0xa0 | byte(i&15), byte(i >> 4)}, 16)
	}
	return out
}

func probe(version, n int) *Probe {
	return &Probe{MessageID: "urn:uuid:01234567-89ab-CDEF-0123-456789abcdef", Version: version, IDs: ids(n)}
}

var (
	service = netip.MustParseAddrPort("10.0.0.7:80")
	reply   = Reply{MessageID: "urn:uuid:00000000-0000-4000-8000-000000000001", Instance: 1700000000, Number: 3}
	same    = cmp.Options{cmpopts.IgnoreUnexported(Probe{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })}
)

func match(held ...Held) Match {
	return Match{Endpoint: "urn:uuid:00000000-0000-4000-8000-000000000002", Address: service, Held: held}
}

func asked(p *Probe) func(string) *Probe {
	return func(id string) *Probe {
		if id == p.MessageID {
			return p
		}
		return nil
	}
}

// TestTextIsWhatOthersMatch holds the messages letter by letter against section 9.4.
func TestTextIsWhatOthersMatch(t *testing.T) {
	p := probe(1, 2)
	const spaces = `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="http://www.w3.org/2003/05/soap-envelope" xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing"` +
		` xmlns:wsd="http://schemas.xmlsoap.org/ws/2005/04/discovery" xmlns:PeerDist="http://schemas.microsoft.com/p2p/2007/09/PeerDistributionDiscovery"><soap:Header>`
	id1, id2 := strings.Repeat("A000", 16), strings.Repeat("A100", 16)
	want := spaces + `<wsa:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</wsa:To><wsa:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</wsa:Action>` +
		`<wsa:MessageID>` + p.MessageID + `</wsa:MessageID></soap:Header><soap:Body><wsd:Probe><wsd:Types>PeerDist:PeerDistData</wsd:Types>` +
		`<wsd:Scopes MatchBy="http://schemas.xmlsoap.org/ws/2005/04/discovery/strcmp0">` + id1 + " " + id2 + `</wsd:Scopes></wsd:Probe></soap:Body></soap:Envelope>`
	if d := cmp.Diff(want, string(p.Append(nil))); d != "" {
		t.Error(d)
	}
	want = spaces + `<wsa:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</wsa:To><wsa:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/ProbeMatches</wsa:Action>` +
		`<wsa:MessageID>` + reply.MessageID + `</wsa:MessageID><wsa:RelatesTo>` + p.MessageID + `</wsa:RelatesTo><wsd:AppSequence InstanceId="1700000000" MessageNumber="3"/></soap:Header>` +
		`<soap:Body><wsd:ProbeMatches><wsd:ProbeMatch><wsa:EndpointReference><wsa:Address>urn:uuid:00000000-0000-4000-8000-000000000002</wsa:Address></wsa:EndpointReference>` +
		`<wsd:Types>PeerDist:PeerDistData</wsd:Types><wsd:Scopes>` + id1 + " " + id2 + `</wsd:Scopes><wsd:XAddrs>10.0.0.7:80</wsd:XAddrs><wsd:MetadataVersion>1</wsd:MetadataVersion>` +
		`<PeerDist:PeerDistData><PeerDist:BlockCount>0000002E0000002E</PeerDist:BlockCount></PeerDist:PeerDistData></wsd:ProbeMatch></wsd:ProbeMatches></soap:Body></soap:Envelope>`
	if d := cmp.Diff(want, string(AppendReply(nil, p, reply, match(Held{Index: 0, Blocks: 46}, Held{Index: 1, Blocks: 46})))); d != "" {
		t.Error(d)
	}
	p = probe(2, 3)
	got := string(p.Append(nil))
	scopes := base64.StdEncoding.EncodeToString(bytes.Join(append([][]byte{{0, 32, 3}}, p.IDs...), nil))
	if w := `<wsd:Types>PeerDist:PeerDistDataV2</wsd:Types><wsd:Scopes MatchBy="http://schemas.microsoft.com/p2p/2010/05/PeerDistV2MatchingRule">` + scopes + `</wsd:Scopes>`; !strings.Contains(got, w) {
		t.Errorf("%s lacks %s", got, w)
	}
	ten := 10 * time.Minute
	got = string(AppendReply(nil, p, reply, match(Held{Index: 0, All: true, Age: ten}, Held{Index: 2, Age: ten})))
	for _, w := range []string{`<wsd:Types>PeerDist:PeerDistDataV2</wsd:Types><wsd:Scopes>yA==</wsd:Scopes>`, `<wsd:MetadataVersion>2</wsd:MetadataVersion>`,
		`<PeerDist:PeerDistData><PeerDist:SegmentAges>AAEDAgBg6gACYOoA</PeerDist:SegmentAges></PeerDist:PeerDistData>`} {
		if !strings.Contains(got, w) {
			t.Errorf("%s lacks %s", got, w)
		}
	}
	if got := string(AppendReply(nil, probe(1, 1), reply, Match{Address: netip.MustParseAddrPort("[fe80::1]:2178"), Held: []Held{{}}})); !strings.Contains(got, "<wsd:XAddrs>[fe80::1]:2178</wsd:XAddrs>") {
		t.Errorf("an address of IPv6 is written in %s", got)
	}
}

func TestMessagesFitIntoOnePacket(t *testing.T) {
	for _, v := range []struct{ version, n int }{{1, 11}, {2, 16}} {
		if n := len(probe(v.version, v.n).Append(nil)); n > 1472 {
			t.Errorf("a probe of version %d for %d segments has %d bytes", v.version, v.n, n)
		}
	}
	for _, v := range []struct{ version, n, atLeast int }{{1, 1, 1}, {1, 11, 3}, {2, 16, 16}, {2, 255, 30}} {
		p := probe(v.version, v.n)
		var held []Held
		for i := range p.IDs {
			held = append(held, Held{Index: i, Blocks: 512, Age: time.Hour})
			if v.version == 2 {
				held[i].Blocks, held[i].All = 0, true
			}
		}
		b := AppendReply([]byte("before"), p, reply, match(held...))[6:]
		if len(b) > MaxReply {
			t.Errorf("a reply of version %d about %d segments has %d bytes", v.version, v.n, len(b))
		}
		_, got, err := DecodeReply(b, asked(p))
		if err != nil {
			t.Fatal(err)
		}
		ages := 0
		for _, h := range got[0].Held {
			if h.Age > 0 {
				ages++
			}
		}
		if v.version == 2 && (len(got[0].Held) != v.n || ages < v.atLeast) || v.version == 1 && len(got[0].Held) < v.atLeast {
			t.Errorf("a reply of version %d about %d segments tells of %d, with %d ages", v.version, v.n, len(got[0].Held), ages)
		}
	}
}

func TestMessagesComeBack(t *testing.T) {
	for _, version := range []int{1, 2} {
		p := probe(version, 5)
		b := p.Append(nil)
		for _, b := range [][]byte{b, append([]byte("\ufeff"), b...)} {
			got, err := DecodeProbe(b)
			if d := cmp.Diff(p, got, same); err != nil || d != "" {
				t.Errorf("%v %s", err, d)
			}
		}
		m := match(Held{Index: 1, Blocks: 7}, Held{Index: 4, Blocks: 512})
		if version == 2 {
			m = match(Held{Index: 1, All: true, Age: time.Second}, Held{Index: 4})
		}
		q, got, err := DecodeReply(AppendReply(nil, p, reply, m), asked(p))
		if d := cmp.Diff([]Match{m}, got, same); err != nil || d != "" || q != p {
			t.Errorf("%v %s", err, d)
		}
	}
}

func TestIdsAreEchoedAsTheyWereWritten(t *testing.T) {
	b := bytes.Replace(probe(1, 2).Append(nil), []byte(strings.Repeat("A000", 16)), []byte(strings.Repeat("a000", 16)), 1)
	p, err := DecodeProbe(b)
	if err != nil {
		t.Fatal(err)
	}
	r := AppendReply(nil, p, reply, match(Held{Index: 0}, Held{Index: 1}))
	if want := strings.Repeat("a000", 16) + " " + strings.Repeat("A100", 16); !bytes.Contains(r, []byte("<wsd:Scopes>"+want+"<")) {
		t.Errorf("%s does not have %s", r, want)
	}
	// So a reply with another case is not ours.
	if _, _, err := DecodeReply(r, asked(probe(1, 2))); err == nil {
		t.Error("a reply with another case was taken")
	}
}

func TestCountsOfFourDigits(t *testing.T) {
	p := probe(1, 2)
	b := bytes.Replace(AppendReply(nil, p, reply, match(Held{Index: 0, Blocks: 1}, Held{Index: 1, Blocks: 0x200})), []byte("0000000100000200"), []byte("00010200"), 1)
	_, got, err := DecodeReply(b, asked(p))
	if err != nil || got[0].Held[1].Blocks != 0x200 || got[0].Held[0].Blocks != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

// other is a probe as another stack may write it: other prefixes, other places, blanks and what else
// there is in the message.
const other = `<?xml version='1.0'?>
<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing">
 <s:Header><a:Action s:mustUnderstand="1"> http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe </a:Action>
 <a:MessageID>urn:uuid:01234567-89ab-cdef-0123-456789abcdef</a:MessageID><a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To><x xmlns="urn:x"/></s:Header>
 <s:Body><Probe xmlns="http://schemas.xmlsoap.org/ws/2005/04/discovery"><Types xmlns:p="http://schemas.microsoft.com/p2p/2007/09/PeerDistributionDiscovery">p:PeerDistData</Types>
 <Scopes MatchBy="http://schemas.xmlsoap.org/ws/2005/04/discovery/strcmp0">
  A0A0
  B0B0 </Scopes></Probe></s:Body><!-- the end --></s:Envelope>`

func TestProbesOfOtherStacks(t *testing.T) {
	p, err := DecodeProbe([]byte(other))
	if err != nil || p.Version != 1 || len(p.IDs) != 2 || !bytes.Equal(p.IDs[1], []byte{0xb0, 0xb0}) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestDecodeProbeRefuses(t *testing.T) {
	one, two := string(probe(1, 2).Append(nil)), string(probe(2, 2).Append(nil))
	for name, text := range map[string]string{
		"nothing":                 "",
		"text":                    "hello",
		"two documents":           one + one,
		"half a document":         one[:len(one)-5],
		"a large document":        strings.Replace(one, "<soap:Body>", strings.Repeat(" ", MaxDatagram)+"<soap:Body>", 1),
		"a deep document":         strings.Replace(one, "<soap:Body>", strings.Repeat("<a>", 16)+strings.Repeat("</a>", 16)+"<soap:Body>", 1),
		"a document type":         strings.Replace(one, "<soap:Env", `<!DOCTYPE a [<!ENTITY b "c">]><soap:Env`, 1),
		"an entity":               strings.Replace(one, "A000", "&b;A000", 1),
		"another encoding":        strings.Replace(one, "utf-8", "utf-16", 1),
		"an instruction":          strings.Replace(one, "<soap:Env", `<?b c?><soap:Env`, 1),
		"no envelope":             strings.ReplaceAll(one, "soap:Envelope", "soap:Letter"),
		"another SOAP":            strings.Replace(one, "2003/05/soap", "2001/05/soap", 1),
		"two headers":             strings.Replace(one, "<soap:Body>", "<soap:Header></soap:Header><soap:Body>", 1),
		"two bodies":              strings.Replace(one, "<soap:Body>", "<soap:Body></soap:Body><soap:Body>", 1),
		"another action":          strings.Replace(one, "discovery/Probe", "discovery/Hello", 1),
		"two actions":             strings.Replace(one, "<wsa:Action>", "<wsa:Action>a</wsa:Action><wsa:Action>", 1),
		"no id":                   strings.ReplaceAll(one, "wsa:MessageID", "wsa:Message"),
		"an id that is none":      strings.Replace(one, "urn:uuid:01234567", "urn:uuid:0123456z", 1),
		"an id with more":         strings.Replace(one, "456789abcdef</wsa", "456789abcdef&lt;/wsa", 1),
		"an id with a line":       strings.Replace(one, "456789abcdef</wsa", "456789abcde&#10;</wsa", 1),
		"to somebody":             strings.Replace(one, "urn:schemas-xmlsoap-org:ws:2005:04:discovery", "urn:a", 1),
		"no probe":                strings.ReplaceAll(one, "wsd:Probe", "wsd:Resolve"),
		"no types":                strings.ReplaceAll(one, "wsd:Types", "wsd:Type"),
		"another type":            strings.Replace(one, "PeerDist:PeerDistData", "PeerDist:Printer", 1),
		"a type of another space": strings.Replace(one, "PeerDist:PeerDistData", "wsd:PeerDistData", 1),
		"a prefix that is none":   strings.Replace(one, "PeerDist:PeerDistData", "a:PeerDistData", 1),
		"the other rule":          strings.Replace(one, "PeerDist:PeerDistData", "PeerDist:PeerDistDataV2", 1),
		"no rule":                 strings.Replace(one, ` MatchBy="http://schemas.xmlsoap.org/ws/2005/04/discovery/strcmp0"`, "", 1),
		"no scopes":               strings.ReplaceAll(one, "wsd:Scopes", "wsd:Scope"),
		"empty scopes":            strings.Replace(one, strings.Repeat("A000", 16)+" "+strings.Repeat("A100", 16), " ", 1),
		"odd digits":              strings.Replace(one, "A000", "A00", 1),
		"no digits":               strings.Replace(one, "A000", "A00g", 1),
		"a long id":               strings.Replace(one, "A000", strings.Repeat("A000", 30), 1),
		"many ids":                strings.Replace(one, "A000", strings.Repeat("A0 ", 255)+"A000", 1),
		"no base64":               strings.Replace(two, "ACAC", "!CAC", 1),
		"a size of ids that is 0": strings.Replace(two, "ACAC", "AAAC", 1),
		"one id too few":          strings.Replace(two, "ACAC", "ACAD", 1),
		"no ids":                  strings.Replace(two, "ACAC", "ACAA", 1),
	} {
		if text == one || text == two {
			t.Fatalf("%s: the text was not changed", name)
		}
		if p, err := DecodeProbe([]byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", name, p)
		}
	}
}

func TestDecodeReplyRefuses(t *testing.T) {
	p1, p2 := probe(1, 2), probe(2, 5)
	one := string(AppendReply(nil, p1, reply, match(Held{Index: 0, Blocks: 1}, Held{Index: 1, Blocks: 2})))
	two := string(AppendReply(nil, p2, reply, match(Held{Index: 4, All: true})))
	for name, v := range map[string]struct {
		p    *Probe
		text string
	}{
		"a probe":                   {p1, string(p1.Append(nil))},
		"an answer to another":      {p1, strings.Replace(one, "<wsa:RelatesTo>urn:uuid:0", "<wsa:RelatesTo>urn:uuid:1", 1)},
		"no matches":                {p1, strings.ReplaceAll(one, "wsd:ProbeMatches", "wsd:Matches")},
		"no match":                  {p1, strings.ReplaceAll(one, "wsd:ProbeMatch>", "wsd:Match>")},
		"another type":              {p1, strings.Replace(one, "PeerDist:PeerDistData<", "PeerDist:PeerDistDataV2<", 1)},
		"no endpoint":               {p1, strings.ReplaceAll(one, "wsa:Address>", "wsa:Addr>")},
		"a long endpoint":           {p1, strings.Replace(one, "<wsa:Address>", "<wsa:Address>"+strings.Repeat("a", 128), 1)},
		"no address":                {p1, strings.Replace(one, "10.0.0.7:80", "", 1)},
		"a name":                    {p1, strings.Replace(one, "10.0.0.7:80", "localhost:80", 1)},
		"a URL":                     {p1, strings.Replace(one, "10.0.0.7:80", "http://10.0.0.7:80/", 1)},
		"no port":                   {p1, strings.Replace(one, "10.0.0.7:80", "10.0.0.7:0", 1)},
		"a zone":                    {p1, strings.Replace(one, "10.0.0.7:80", "[fe80::1%eth0]:80", 1)},
		"an id that was not asked":  {p1, strings.Replace(one, "A000", "A00F", 1)},
		"an id twice":               {p1, strings.Replace(one, strings.Repeat("A000", 16), strings.Repeat("A100", 16), 1)},
		"more ids than asked":       {p1, strings.Replace(one, "<wsd:Scopes>", "<wsd:Scopes>"+strings.Repeat("A000 ", 3), 1)},
		"no ids":                    {p1, strings.Replace(one, strings.Repeat("A000", 16)+" "+strings.Repeat("A100", 16), "", 1)},
		"an odd count":              {p1, strings.Replace(one, "0000000100000002", "000000010000000", 1)},
		"a count that is none":      {p1, strings.Replace(one, "0000000100000002", "000000010000000g", 1)},
		"a sign in a count":         {p1, strings.Replace(one, "0000000100000002", "000000010000-002", 1)},
		"long counts":               {p1, strings.Replace(one, "0000000100000002", strings.Repeat("0", 18), 1)},
		"nothing of what was asked": {p2, strings.Replace(two, "AMA=", "AAA=", 1)},
		"bits that are no base64":   {p2, strings.Replace(two, "AMA=", "!MA=", 1)},
		"too many bits":             {p2, strings.Replace(two, "AMA=", "AMAA", 1)},
		"too few bits":              {p2, strings.Replace(two, "AMA=", "AA==", 1)},
	} {
		if v.text == one || v.text == two {
			t.Fatalf("%s: the text was not changed", name)
		}
		if _, m, err := DecodeReply([]byte(v.text), asked(v.p)); err == nil {
			t.Errorf("%s: taken as %+v", name, m)
		}
	}
	// Ages that cannot be read, or in the element of a draft, are no reason to drop the rest.
	for _, text := range []string{strings.Replace(two, "PeerDist:SegmentAges>A", "PeerDist:SegmentAges>!", 1), strings.ReplaceAll(two, "PeerDist:PeerDistData>", "PeerDist:PeerDistDataV2>")} {
		if _, m, err := DecodeReply([]byte(text), asked(p2)); err != nil || len(m[0].Held) != 1 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	if _, m, err := DecodeReply([]byte(strings.Replace(one, "10.0.0.7:80", "peer:80 [::ffff:10.0.0.8]:81", 1)), asked(p1)); err != nil || m[0].Address != netip.MustParseAddrPort("10.0.0.8:81") {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestNewID(t *testing.T) {
	a, b := NewID(), NewID()
	if a == b || !validID.MatchString(a) || a[9+14] != '4' || !strings.ContainsRune("89ab", rune(a[9+19])) {
		t.Errorf("ids %s and %s", a, b)
	}
}

func FuzzDecodeProbe(f *testing.F) {
	f.Add(probe(1, 2).Append(nil))
	f.Add(probe(2, 2).Append(nil))
	f.Add([]byte(other))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodeProbe(b)
		if err != nil {
			return
		}
		again, err := DecodeProbe(p.Append(nil))
		if len(p.Append(nil)) > MaxDatagram {
			return
		}
		if d := cmp.Diff(p, again, same); err != nil || d != "" {
			t.Fatal(err, d)
		}
		var held []Held
		for i := range p.IDs {
			held = append(held, Held{Index: i})
		}
		r := AppendReply(nil, p, reply, match(held...))
		if len(r) > MaxReply {
			t.Fatalf("a reply of %d bytes", len(r))
		}
		if _, _, err := DecodeReply(r, asked(p)); err != nil && !strings.Contains(fmt.Sprint(err), "not asked for") { // an id may be there twice
			t.Fatal(err)
		}
	})
}

func FuzzDecodeReply(f *testing.F) {
	p1, p2 := probe(1, 2), probe(2, 5)
	p2.MessageID = "urn:uuid:2"
	f.Add(AppendReply(nil, p1, reply, match(Held{Index: 1, Blocks: 2})))
	f.Add(AppendReply(nil, p2, reply, match(Held{Index: 1, All: true})))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, m, err := DecodeReply(b, func(id string) *Probe { return map[string]*Probe{p1.MessageID: p1, p2.MessageID: p2}[id] })
		if err != nil {
			return
		}
		for _, m := range m {
			for _, h := range m.Held {
				if h.Index < 0 || h.Index >= len(p.IDs) {
					t.Fatalf("%+v", h)
				}
			}
		}
	})
}
