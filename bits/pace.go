package bits

// PaceState says what decides how fast background transfers move over a network path.
type PaceState string

// The states of a path's pace.
const (
	PaceUnrestricted PaceState = "unrestricted"  // foreground: nothing is held back
	PaceProbing      PaceState = "probing"       // listening, or growing to find out what is free
	PaceIdle         PaceState = "idle_capacity" // the path's idle capacity was found and is used
	PaceYielding     PaceState = "yielding"      // someone else uses the path; ebb stepped back
	PaceCapped       PaceState = "capped"        // policy allows no more
	PaceShared       PaceState = "shared"        // of a job: another one fetches the same file
	PaceSilent       PaceState = "silent"        // of a job: nothing comes of its server
)

// Pace says how fast a running job moves and why.
type Pace struct {
	State PaceState `json:"state" enum:"unrestricted,probing,idle_capacity,yielding,capped,shared,silent"`
	Why   string    `json:"why" doc:"The same for people"`
	Rate  int64     `json:"rate" doc:"Bytes per second that the job moves now"`
}

// Path is what the service knows of one network path that its transfers use.
type Path struct {
	Name        string    `json:"name" doc:"The interface and the server, and whether it is what this machine uploads"`
	Interface   string    `json:"interface" doc:"Network interface; empty if unknown"`
	Server      string    `json:"server" doc:"Address of the server"`
	State       PaceState `json:"state" enum:"unrestricted,probing,idle_capacity,yielding,capped"`
	Why         string    `json:"why" doc:"The same for people"`
	Background  int64     `json:"background" doc:"Bytes per second that background jobs move"`
	Foreground  int64     `json:"foreground" doc:"Bytes per second that foreground jobs move"`
	Others      *int64    `json:"others,omitempty" doc:"Bytes per second that other programs of this machine receive over the interface"`
	Capacity    int64     `json:"capacity" doc:"Estimate of what the path can carry, in bytes per second; 0 while unknown"`
	Limit       *int64    `json:"limit,omitempty" doc:"Ceiling of background traffic by policy, in bytes per second"`
	Window      int64     `json:"window" doc:"Bytes that background jobs may have under way"`
	RTT         float64   `json:"rtt_ms" doc:"Round-trip time now, in milliseconds"`
	BaseRTT     float64   `json:"base_rtt_ms" doc:"Round-trip time of the empty path, in milliseconds; 0 while unknown"`
	Queue       float64   `json:"queue_ms" doc:"Time that packets wait in queues now, in milliseconds"`
	Connections int       `json:"connections" doc:"Background connections"`
	Signals     []string  `json:"signals" doc:"What the pace is decided by: rcv_rtt (TCP timestamps), window_rate (how long a window takes to come, without them), interface_counters; of an upload rtt, as the sender measures it"`
}
