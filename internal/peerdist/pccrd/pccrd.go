// Package pccrd is the messages of BranchCache's discovery (MS-PCCRD): a Probe asks all machines of a
// network who has which segments, and ProbeMatches answers it. They are WS-Discovery of April 2005.
//
// What is written is what other implementations match letter by letter (section 9.4 of peercache.md);
// what is read comes from anybody on the network: it is small, flat, without a document type, and all of
// it is checked, or it is an error, and the datagram is to be dropped without a word.
package pccrd

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ebbtransfer/ebb/internal/peerdist"
)

// Port is the one of UDP that probes are sent to and should come from (section 9.5).
const Port = 3702

// Group4 and Group6 are the multicast groups (section 9.1).
var (
	Group4 = netip.MustParseAddr("239.255.255.250")
	Group6 = netip.MustParseAddr("ff02::c")
)

// Limits.
const (
	MaxDatagram = 8 << 10 // bytes that are read (section 11, row 5)
	MaxReply    = 1472    // bytes that are answered: a datagram in one piece (section 11, row 4)
	MaxIDs      = 255     // of a probe (section 9.3)
)

const (
	nsSOAP = "http://www.w3.org/2003/05/soap-envelope"
	nsWSA  = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
	nsWSD  = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
	nsPeer = "http://schemas.microsoft.com/p2p/2007/09/PeerDistributionDiscovery"

	toAll       = "urn:schemas-xmlsoap-org:ws:2005:04:discovery"
	toAnonymous = nsWSA + "/role/anonymous"
	actProbe    = nsWSD + "/Probe"
	actMatches  = nsWSD + "/ProbeMatches"
)

// format is what the two versions of the messages differ in (section 9.2). Which one is used depends on
// the version of the content information; but some use the first for both, so that an id may be of either.
type format struct{ local, matchBy string }

var formats = map[int]format{
	1: {"PeerDistData", nsWSD + "/strcmp0"},
	2: {"PeerDistDataV2", "http://schemas.microsoft.com/p2p/2010/05/PeerDistV2MatchingRule"},
}

// Probe asks for segments.
type Probe struct {
	MessageID string   // NewID makes one
	Version   int      // 1 or 2
	IDs       [][]byte // public ids, 1 to MaxIDs; of 32 bytes in version 2
	raw       []string // how the ids of version 1 were written; they are echoed like that
}

// Held is a segment that somebody has.
type Held struct {
	Index  int           // in Probe.IDs
	Blocks uint32        // how many blocks of it; 0 in version 2, which does not tell
	All    bool          // all of them; false in version 1, which does not tell
	Age    time.Duration // for how long; told in version 2 only
}

// Match is an answer of one machine.
type Match struct {
	Endpoint string         // the same as long as its service runs; NewID makes one
	Address  netip.AddrPort // where it serves blocks
	Held     []Held
}

// Reply is what ProbeMatches has next to the match.
type Reply struct {
	MessageID string
	Instance  int64  // when the service was started, in seconds since 1970
	Number    uint32 // of this reply: 1, 2, 3 ...
}

// NewID returns a new urn:uuid.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// validID is all that is ever echoed of the ids of others.
var validID = regexp.MustCompile(`^urn:uuid:[0-9A-Fa-f-]{36}$`)

const head = `<?xml version="1.0" encoding="utf-8"?><soap:Envelope xmlns:soap="` + nsSOAP + `" xmlns:wsa="` + nsWSA + `" xmlns:wsd="` + nsWSD + `" xmlns:PeerDist="` + nsPeer + `"><soap:Header>`

// Append appends the probe as it is sent.
func (p *Probe) Append(b []byte) []byte {
	f := formats[p.Version]
	return fmt.Appendf(b, head+`<wsa:To>`+toAll+`</wsa:To><wsa:Action>`+actProbe+`</wsa:Action><wsa:MessageID>%s</wsa:MessageID></soap:Header>`+
		`<soap:Body><wsd:Probe><wsd:Types>PeerDist:%s</wsd:Types><wsd:Scopes MatchBy="%s">%s</wsd:Scopes></wsd:Probe></soap:Body></soap:Envelope>`,
		p.MessageID, f.local, f.matchBy, p.scopes())
}

func (p *Probe) scopes() string {
	if p.Version == 2 {
		b := append(binary.BigEndian.AppendUint16(nil, idSize), byte(len(p.IDs)))
		for _, id := range p.IDs {
			b = append(b, id...)
		}
		return base64.StdEncoding.EncodeToString(b)
	}
	words := make([]string, len(p.IDs))
	for i := range p.IDs {
		words[i] = p.word(i)
	}
	return strings.Join(words, " ")
}

const (
	idSize      = 32  // bytes of an id of version 2
	maxEndpoint = 128 // bytes: it should be a urn:uuid, but nothing depends on that
)

// word returns how id i of version 1 is written, in the probe and in answers to it.
func (p *Probe) word(i int) string {
	if i < len(p.raw) {
		return p.raw[i]
	}
	return strings.ToUpper(hex.EncodeToString(p.IDs[i]))
}

// DecodeProbe reads a probe for segments. All other messages of WS-Discovery are errors.
func DecodeProbe(b []byte) (*Probe, error) {
	head, body, err := envelope(b, actProbe)
	if err != nil {
		return nil, err
	}
	if to, ok := head.text(nsWSA, "To"); ok && to != toAll {
		return nil, errors.New("a probe to somebody")
	}
	id, _ := head.text(nsWSA, "MessageID")
	if !validID.MatchString(id) {
		return nil, errors.New("a probe without an id that can be echoed")
	}
	n := body.child(nsWSD, "Probe")
	if n == nil {
		return nil, errors.New("an action without a probe")
	}
	p := &Probe{MessageID: id, Version: n.version()}
	scopes := n.child(nsWSD, "Scopes")
	if p.Version == 0 || scopes == nil || scopes.attr("MatchBy") != formats[p.Version].matchBy {
		return nil, errors.New("a probe for something else")
	}
	if p.Version == 2 {
		v, err := base64.StdEncoding.DecodeString(strings.TrimSpace(scopes.chars))
		if err != nil || len(v) < 3 || binary.BigEndian.Uint16(v) != idSize || v[2] == 0 || len(v) != 3+idSize*int(v[2]) {
			return nil, errors.New("a probe with ids that cannot be read")
		}
		p.IDs = slices.Collect(slices.Chunk(v[3:], idSize))
		return p, nil
	}
	p.raw = strings.Fields(scopes.chars)
	if len(p.raw) == 0 || len(p.raw) > MaxIDs {
		return nil, fmt.Errorf("a probe with %d ids", len(p.raw))
	}
	for _, s := range p.raw {
		id, err := hex.DecodeString(s)
		if err != nil || len(id) > peerdist.MaxID {
			return nil, errors.New("a probe with ids that cannot be read")
		}
		p.IDs = append(p.IDs, id)
	}
	return p, nil
}

// AppendReply appends ProbeMatches that answers p with m, whose segments are at least one and in order.
// Segments (version 1) or ages (version 2) that would make it longer than MaxReply are left out.
func AppendReply(b []byte, p *Probe, r Reply, m Match) []byte {
	held := m.Held
	for {
		n := len(b)
		out := appendReply(b, p, r, m, held)
		over := len(out) - n - MaxReply
		if over <= 0 || len(held) <= 1 {
			return out
		}
		each := 6 // of an age, at least
		if p.Version == 1 {
			each = 2*peerdist.MaxID + 9
		}
		held = held[:max(1, len(held)-(over+each-1)/each)]
	}
}

func appendReply(b []byte, p *Probe, r Reply, m Match, held []Held) []byte {
	f := formats[p.Version]
	var scopes, data string
	if p.Version == 2 {
		bits := make([]byte, (2*len(p.IDs)+7)/8)
		for _, h := range m.Held { // all of them: only ages are left out
			v := byte(0b10)
			if h.All {
				v = 0b11
			}
			bits[h.Index/4] |= v << (6 - h.Index%4*2)
		}
		var ages []peerdist.Age
		for _, h := range held {
			ages = append(ages, peerdist.Age{Segment: h.Index, Age: h.Age})
		}
		scopes = base64.StdEncoding.EncodeToString(bits)
		data = "<PeerDist:SegmentAges>" + base64.StdEncoding.EncodeToString(peerdist.AppendAges(nil, ages)) + "</PeerDist:SegmentAges>"
	} else {
		var words, counts []string
		for _, h := range held {
			words = append(words, p.word(h.Index))
			counts = append(counts, fmt.Sprintf("%08X", h.Blocks))
		}
		scopes = strings.Join(words, " ")
		data = "<PeerDist:BlockCount>" + strings.Join(counts, "") + "</PeerDist:BlockCount>"
	}
	return fmt.Appendf(b, head+`<wsa:To>`+toAnonymous+`</wsa:To><wsa:Action>`+actMatches+`</wsa:Action><wsa:MessageID>%s</wsa:MessageID><wsa:RelatesTo>%s</wsa:RelatesTo>`+
		`<wsd:AppSequence InstanceId="%d" MessageNumber="%d"/></soap:Header><soap:Body><wsd:ProbeMatches><wsd:ProbeMatch><wsa:EndpointReference><wsa:Address>%s</wsa:Address></wsa:EndpointReference>`+
		`<wsd:Types>PeerDist:%s</wsd:Types><wsd:Scopes>%s</wsd:Scopes><wsd:XAddrs>%s</wsd:XAddrs><wsd:MetadataVersion>%d</wsd:MetadataVersion>`+
		`<PeerDist:PeerDistData>%s</PeerDist:PeerDistData></wsd:ProbeMatch></wsd:ProbeMatches></soap:Body></soap:Envelope>`,
		r.MessageID, p.MessageID, r.Instance, r.Number, m.Endpoint, f.local, scopes, m.Address, p.Version, data)
}

// DecodeReply reads ProbeMatches. asked returns the probe with an id, or nil; an answer to no probe is
// an error, as is one that has nothing of what the probe asked for. Whether the addresses are in the
// network that was asked is left to the caller.
func DecodeReply(b []byte, asked func(messageID string) *Probe) (*Probe, []Match, error) {
	head, body, err := envelope(b, actMatches)
	if err != nil {
		return nil, nil, err
	}
	id, _ := head.text(nsWSA, "RelatesTo")
	p := asked(id)
	if p == nil {
		return nil, nil, errors.New("an answer to no probe")
	}
	all := body.child(nsWSD, "ProbeMatches")
	if all == nil {
		return nil, nil, errors.New("an action without matches")
	}
	var out []Match
	for _, n := range all.children {
		if n.name != (name{nsWSD, "ProbeMatch"}) {
			continue
		}
		m, err := n.match(p)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, nil, errors.New("an answer without a match")
	}
	return p, out, nil
}

func (n *node) match(p *Probe) (Match, error) {
	var m Match
	if n.version() != p.Version {
		return m, errors.New("a match of another type than the probe")
	}
	if e := n.child(nsWSA, "EndpointReference"); e != nil {
		m.Endpoint, _ = e.text(nsWSA, "Address")
	}
	if m.Endpoint == "" || len(m.Endpoint) > maxEndpoint {
		return m, errors.New("a match without an endpoint")
	}
	addresses, _ := n.text(nsWSD, "XAddrs")
	for _, s := range strings.Fields(addresses) {
		if a, err := netip.ParseAddrPort(s); err == nil && a.Port() != 0 && a.Addr().Zone() == "" {
			m.Address = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			break
		}
	}
	if !m.Address.IsValid() {
		return m, errors.New("a match without an address")
	}
	scopes, _ := n.text(nsWSD, "Scopes")
	data := n.child(nsPeer, formats[1].local)
	if data == nil {
		data = n.child(nsPeer, formats[2].local) // in a draft (section 9.2)
	}
	if data == nil {
		data = new(node)
	}
	var err error
	if p.Version == 2 {
		m.Held, err = held2(p, scopes, data)
	} else {
		m.Held, err = held1(p, scopes, data)
	}
	if err == nil && len(m.Held) == 0 {
		err = errors.New("a match of nothing")
	}
	return m, err
}

func held1(p *Probe, scopes string, data *node) ([]Held, error) {
	words := strings.Fields(scopes)
	counts, _ := data.text(nsPeer, "BlockCount")
	width := 0
	if len(words) > 0 {
		width = len(counts) / len(words) // 4 or 8 (section 16.8)
	}
	if len(words) > len(p.IDs) || width > 8 || len(counts) != width*len(words) {
		return nil, errors.New("a match with counts that cannot be read")
	}
	var held []Held
	for i, w := range words {
		h := Held{Index: -1}
		for j := range p.IDs {
			if p.word(j) == w { // with its case (section 9.2)
				h.Index = j
			}
		}
		if h.Index < 0 || slices.ContainsFunc(held, func(o Held) bool { return o.Index == h.Index }) {
			return nil, errors.New("a match of an id that was not asked for")
		}
		if width > 0 {
			n, err := strconv.ParseUint(counts[i*width:(i+1)*width], 16, 32)
			if err != nil {
				return nil, errors.New("a match with counts that cannot be read")
			}
			h.Blocks = uint32(n)
		}
		held = append(held, h)
	}
	return held, nil
}

func held2(p *Probe, scopes string, data *node) ([]Held, error) {
	bits, err := base64.StdEncoding.DecodeString(scopes)
	if err != nil || len(bits) != (2*len(p.IDs)+7)/8 {
		return nil, errors.New("a match with segments that cannot be read")
	}
	var held []Held
	for i := range p.IDs {
		if v := bits[i/4] >> (6 - i%4*2) & 0b11; v != 0 {
			held = append(held, Held{Index: i, All: v&1 != 0})
		}
	}
	// What cannot be read of the ages is ignored.
	text, _ := data.text(nsPeer, "SegmentAges")
	blob, _ := base64.StdEncoding.DecodeString(text)
	for _, a := range peerdist.DecodeAges(blob) {
		for i := range held {
			if held[i].Index == a.Segment {
				held[i].Age = a.Age
			}
		}
	}
	return held, nil
}
