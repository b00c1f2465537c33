package bits

import "time"

// NewJob is the request to create a job.
type NewJob struct {
	ID       *ID        `json:"id,omitempty" doc:"A random UUID chosen by the caller; creating a job of one's own again with the same id changes nothing and succeeds"`
	Type     Type       `json:"type,omitempty"`
	Settings            // Name is required
	Files    []FileSpec `json:"files,omitempty" doc:"Files to add at once; all or none"`
	Resume   bool       `json:"resume,omitempty" doc:"Start the job at once instead of leaving it SUSPENDED"`
}

// MaxBatch is the most jobs that are created by one call.
const MaxBatch = 1000

// Created tells of one of several jobs that were to be created: the job, or why there is none.
type Created struct {
	Job   *Summary   `json:"job,omitempty"`
	Error *ErrorInfo `json:"error,omitempty"`
}

// Outcome is the answer to suspend, resume, cancel and complete.
type Outcome struct {
	Code    string  `json:"code" doc:"S_OK, or a success code such as BG_S_PARTIAL_COMPLETE"`
	HResult string  `json:"hresult"`
	Message string  `json:"message"`
	Job     Summary `json:"job"`
	// Dropped are the properties that a job lost when its owner changed.
	Dropped []string `json:"dropped,omitempty" doc:"What a job lost when it was taken over"`
}

// Summary names a job and its state.
type Summary struct {
	ID    ID     `json:"id"`
	Name  string `json:"name"`
	State State  `json:"state"`
}

// Service describes the running service.
type Service struct {
	Version    string         `json:"version"`
	PID        int            `json:"pid"`
	State      string         `json:"state,omitempty" doc:"Directory of the job store; for administrators"`
	Started    time.Time      `json:"started"`
	Jobs       map[string]int `json:"jobs" doc:"Number of jobs in each state that is not final: the caller's, for administrators those of all users"`
	Notices    []string       `json:"notices,omitempty" doc:"What an administrator should know, such as that a damaged store was set aside"`
	Conditions Conditions     `json:"conditions"`
}

// Conditions are what the machine allows now.
type Conditions struct {
	Online      bool   `json:"online" doc:"There is a network besides the machine itself"`
	Cost        Cost   `json:"cost" doc:"Cost states of the network in use; flat-rate if nobody knows"`
	CostSource  string `json:"cost_source" doc:"Who says what the network costs, such as NetworkManager or the policy's cost.network; empty if nobody does"`
	Interface   string `json:"interface" doc:"Network interface in use; empty if unknown"`
	OnBattery   bool   `json:"on_battery"`
	Battery     *int   `json:"battery,omitempty" doc:"How full the battery is, in percent, where there is one"`
	PowerSource string `json:"power_source" doc:"Who says whether the machine runs on battery; empty if nobody does"`
	PowerSaver  bool   `json:"power_saver"`
	SaverSource string `json:"power_saver_source" doc:"Who says whether the machine saves power; empty if nobody does"`
}

// EventKind says what an event is about.
type EventKind string

// The kinds of events.
const (
	EventAdded       EventKind = "added"       // a job was created
	EventModified    EventKind = "modified"    // a property or the list of files changed
	EventState       EventKind = "state"       // the state changed, other than to the three below
	EventTransferred EventKind = "transferred" // the job became TRANSFERRED
	EventError       EventKind = "error"       // the job became ERROR
	EventFile        EventKind = "file"        // one file is transferred and durable
	EventRanges      EventKind = "ranges"      // parts of a file that were asked for are here and durable; may be merged or left out
	EventNote        EventKind = "note"        // something a person should know happened to a file
	EventRemoved     EventKind = "removed"     // the job became ACKNOWLEDGED or CANCELLED
	EventNotify      EventKind = "notify"      // the owner's program could not be told of the job's end
	EventProgress    EventKind = "progress"    // bytes moved; has no number and is never repeated
	EventMissed      EventKind = "missed"      // events that the reader has not seen are gone; about no job
)

// Event is one piece of news about a job. Numbers grow; a stream resumes after any of them.
type Event struct {
	Seq      uint64     `json:"seq,omitempty" doc:"Number of the event; 0 for progress; with missed: the number after which the stream goes on"`
	Time     time.Time  `json:"time"`
	Kind     EventKind  `json:"kind" enum:"added,modified,state,transferred,error,file,ranges,note,removed,notify,progress,missed"`
	Job      ID         `json:"job" doc:"All zero with missed, which is about no job; its name, owner and state say nothing"`
	Name     string     `json:"name"`
	Owner    string     `json:"owner"`
	State    State      `json:"state"`
	Progress *Progress  `json:"progress,omitempty"`
	Pace     *Pace      `json:"pace,omitempty" doc:"With progress: how fast the job moves and why"`
	File     *File      `json:"file,omitempty" doc:"The file that a file, ranges or note event is about, or the one moving now"`
	Ranges   []Range    `json:"ranges,omitempty" doc:"With ranges: parts of the file here that were asked for and have come"`
	Error    *ErrorInfo `json:"error,omitempty" doc:"With the states ERROR and TRANSIENT_ERROR"`
	RetryAt  *time.Time `json:"retry_at,omitempty" doc:"With TRANSIENT_ERROR, when a timer decides the next attempt"`
	Note     string     `json:"note,omitempty" doc:"What a person should know, such as why the service cancelled the job, or why events were missed"`
}

// Notification is a piece of news for the program that asked for a user's callbacks.
type Notification struct {
	ID          uint64 `json:"id,omitempty" doc:"To be acknowledged; absent for news that need not be"`
	Acknowledge bool   `json:"acknowledge" doc:"The service waits for an acknowledgement, and tells again without one"`
	Event       Event  `json:"event"`
}

// Registration is the answer to a program that asks for callbacks.
type Registration struct {
	ID ID `json:"id" doc:"Names the registration in acknowledgements"`
}

// Acknowledgement is a program's answer to a notification.
type Acknowledgement struct {
	Handled bool `json:"handled" doc:"false if the program could not deal with it: then the job's notify command runs, or the program is told again"`
}

// CallbackState tells whether a program has asked for the callbacks of a job.
type CallbackState struct {
	Registered bool `json:"registered"`
}

// Problem is an error answer of the HTTP API (RFC 9457).
type Problem struct {
	Type       string    `json:"type,omitempty" doc:"URI of the kind of problem" default:"about:blank"`
	Title      string    `json:"title" doc:"The HTTP status in words"`
	Status     int       `json:"status" doc:"The HTTP status"`
	Detail     string    `json:"detail" doc:"A sentence for people"`
	Code       string    `json:"code" doc:"BITS name of the error"`
	HResult    string    `json:"hresult" doc:"BITS value of the error"`
	Context    Context   `json:"context"`
	File       string    `json:"file,omitempty" doc:"URL or path it is about"`
	Hint       string    `json:"hint,omitempty" doc:"What to do about it"`
	Candidates []Summary `json:"candidates,omitempty" doc:"The jobs that an ambiguous name or prefix fits"`
}
