package bits

import "time"

// PeerStatus is what a service has to do with peers: machines that give each other the blocks of files which
// each of them may have.
type PeerStatus struct {
	Mode           string        `json:"mode" enum:"off,local,distributed,hosted" doc:"Where downloads get blocks from besides the server: nowhere, the machine's own cache, machines of the same network, hosted caches"`
	Fetch          bool          `json:"fetch" doc:"Downloads may get blocks from others"`
	Port           int           `json:"port" doc:"TCP port that blocks are served on"`
	Serving        []string      `json:"serving" doc:"Addresses at which blocks are served now; empty while none are"`
	NotServing     string        `json:"not_serving,omitempty" doc:"Why none are served, in a mode that serves"`
	Networks       []PeerNetwork `json:"networks" doc:"The networks that peers are looked for on, in mode distributed"`
	HostedCaches   []string      `json:"hosted_caches" doc:"The caches that are asked, in mode hosted"`
	PlainHTTP      bool          `json:"plain_http" doc:"Content information counts that came without TLS"`
	ServeOnBattery bool          `json:"serve_on_battery" doc:"Blocks are served on battery too"`
	DigestMode     bool          `json:"digest_mode" doc:"Files that only a digest is known of are shared too"`
	Version1Only   bool          `json:"version1_only" doc:"The machine speaks as Windows 7 and Server 2008 R2 do"`
	Problem        string        `json:"problem,omitempty" doc:"Why not all of it works"`
	Stats          PeerStats     `json:"stats" doc:"Counts since the service started"`
	Peers          []Peer        `json:"peers,omitempty" doc:"Machines that had something to do with downloads lately; for administrators"`
}

// PeerNetwork is a network with peers.
type PeerNetwork struct {
	Interface string   `json:"interface" example:"eth0"`
	Addresses []string `json:"addresses" doc:"The machine's addresses there, with their networks"`
}

// Peer is another machine, or a hosted cache.
type Peer struct {
	Address string    `json:"address" example:"192.0.2.7:2178"`
	Hosted  bool      `json:"hosted" doc:"It is a hosted cache"`
	Bytes   int64     `json:"bytes" doc:"Bytes that came from it since the service started"`
	Used    time.Time `json:"used,omitzero" doc:"When it last gave a block"`
	Avoided bool      `json:"avoided" doc:"It is not asked at present, as it did not answer or lied"`
	Lied    bool      `json:"lied" doc:"It sent what is wrong"`
}

// PeerStats are counts.
type PeerStats struct {
	FromPeers    int64 `json:"bytes_from_peers" doc:"Bytes of downloads for which content information was there that came from peers"`
	FromCache    int64 `json:"bytes_from_cache" doc:"Bytes of these downloads that the machine's own cache had"`
	FromOrigin   int64 `json:"bytes_from_origin" doc:"Bytes of these downloads that came from their servers"`
	Fetched      int64 `json:"fetched_bytes" doc:"Bytes that others sent and that were right"`
	Served       int64 `json:"served_bytes" doc:"Bytes that others were sent"`
	ServedBlocks int64 `json:"served_blocks" doc:"Blocks that others were sent"`
	Refused      int64 `json:"refused" doc:"Requests that got an empty answer as there were too many at once"`
	Probes       int64 `json:"probes" doc:"Questions to the network who has something"`
	Answers      int64 `json:"answers" doc:"Good answers to them"`
	Probed       int64 `json:"probed" doc:"Such questions of others"`
	Answered     int64 `json:"answered" doc:"Those of them that were answered"`
	Dropped      int64 `json:"dropped" doc:"Datagrams that were malformed, from elsewhere, or too many"`
	Offers       int64 `json:"offers" doc:"Segments that hosted caches were offered"`
}

// CacheInfo describes the cache of what was downloaded, for peers and for downloads to come.
type CacheInfo struct {
	Open      bool   `json:"open" doc:"There is one: the mode is not off"`
	Left      bool   `json:"left,omitempty" doc:"There is none, but what one had is still on the disk"`
	Directory string `json:"directory,omitempty" doc:"Where it is; for administrators"`
	Segments  int    `json:"segments" doc:"Segments that it has something of"`
	Bytes     int64  `json:"bytes" doc:"What it has"`
	Limit     int64  `json:"limit" doc:"What it may have now: its size, or less while the disk is nearly full"`
	Size      string `json:"size" example:"5%" doc:"Its size as configured (peers.cache_size)"`
	MaxAge    string `json:"max_age" example:"28d" doc:"For how long a segment is kept (peers.max_age)"`
}

// CacheEntry is a segment of the cache: a part of a file, of up to 32 MiB.
type CacheEntry struct {
	ID      string    `json:"id" doc:"Its public id, in hexadecimal"`
	Length  int       `json:"length" doc:"Bytes of the segment"`
	Held    int64     `json:"held" doc:"Bytes of it that are here"`
	Created time.Time `json:"created" doc:"When the first of them came"`
	Used    time.Time `json:"used" doc:"When they were last read, to the hour"`
}

// CacheCopied says what was exported or imported.
type CacheCopied struct {
	Segments int   `json:"segments"`
	Blocks   int   `json:"blocks"`
	Bytes    int64 `json:"bytes"`
	Damaged  int   `json:"damaged" doc:"Parts of what was imported that are not what they say, and were left out"`
}
