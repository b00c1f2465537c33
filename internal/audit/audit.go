// Package audit is how the service tells who did what to which job: the numbers of the events, which
// are BITS's own (client.md 10.2), the names of the facts that come with them, and a handler that
// brings them to systemd's journal as fields of their own. What is told, and when, is decided where
// it happens.
package audit

import "log/slog"

// ID is the number of a kind of event in the log.
type ID int

// The events, with BITS's numbers.
const (
	Resumed           ID = 1
	Suspended         ID = 2
	Created           ID = 3
	Completed         ID = 4
	Cancelled         ID = 5
	CommandSet        ID = 6     // a notify command was set or removed
	BlockedByCost     ID = 34    // jobs wait for a cheaper network
	CostChanged       ID = 37    // the network costs something else
	Started           ID = 59    // a transfer starts
	Stopped           ID = 60    // a transfer stopped, without an error
	Failed            ID = 61    // a transfer stopped for an error
	CommandFailed     ID = 63    // a notify command ended with an error
	CommandNotRun     ID = 64    // a notify command could not be started
	CredentialsTaken  ID = 203   // a server or proxy accepted them
	CredentialsDenied ID = 204   // a server or proxy refused them
	LimitChanged      ID = 205   // another bandwidth limit holds
	Errored           ID = 211   // a job is in ERROR
	Blocked           ID = 213   // jobs wait for what the policy or the machine must allow
	CancelledByOther  ID = 16384 // by another user than the owner
	FilesLeft         ID = 16385 // temporary files could not be deleted
	ChangedByOther    ID = 16387 // a property, by another user than the owner
	Taken             ID = 16388 // the owner is another one now
	Scavenged         ID = 16389 // cancelled by the service after inactivity
	NotificationRetry ID = 16390 // a notification failed and will be tried again
	StoreUnusable     ID = 16391 // the job store was set aside
	StartFailed       ID = 16392 // the service could not start
	TooManyPerMachine ID = 16397 // jobs of all users
	TooManyPerUser    ID = 16398 // jobs of one user
	TooManyFiles      ID = 16400 // files of one job
	TooManyRanges     ID = 16401 // ranges of one file
	FileAdded         ID = 16403
	PolicyProblem     ID = 16405 // the configuration has an error
)

// idKey is the name of the attribute with an event's number.
const idKey = "event"

// Event is the attribute that gives a line of the log its number.
func Event(id ID) slog.Attr { return slog.Int(idKey, int(id)) }
