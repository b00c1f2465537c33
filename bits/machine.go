package bits

import "strings"

// Method is a call on a job that its state may refuse.
type Method uint8

// The methods whose outcome depends on the state (client.md 3.2).
const (
	MethodSuspend Method = iota
	MethodResume
	MethodCancel
	MethodComplete
	MethodAddFile
	MethodAddFileWithRanges
	MethodSetProperty // priority, name, description, notify, retry, timeout, proxy, headers, credentials ...
	MethodSetReplyFileName
	MethodSetFileACLFlags
	MethodReplaceRemotePrefix // and SetRemoteName
	MethodSetCertificateCallback
	MethodSetBeforeResume  // HTTP method, dynamic content, maximum download size
	MethodSetBeforeAddFile // high performance
	MethodTakeOwnership
	MethodGetError
	MethodGetReplyData
	MethodSetValidationState
)

// Facts are what the state machine must know of a job besides its state.
type Facts struct {
	Type         Type
	Files        int  // files in the job
	Unfinished   int  // files that are not transferred yet
	Resumed      bool // Resume was called at least once
	ErrorKept    bool // the last error is still known
	FileDone     bool // the file in question is transferred
	ReplyStarted bool // the reply's download began
}

// Verdict is the outcome of a method: the next state, and a code that is OK, another success
// code, or the error the call is refused with (Next is then the present state).
type Verdict struct {
	Next State
	Code Code
}

// row names a line of the table: a method together with the facts that select it.
type row uint8

const (
	rowSuspend row = iota
	rowResumeEmpty
	rowResumeWork
	rowResumeNothingLeft
	rowCancel
	rowCompleteDownload
	rowCompleteUpload
	rowAddFile
	rowAlways
	rowNotImplemented
	rowReplyNameOpen
	rowReplyNameBegun
	rowFileACLFlags
	rowCertificateCallback
	rowLockedAfterResume
	rowLockedAfterAddFile
	rowErrorKept
	rowErrorForgotten
	rowReplyData
	rowValidationFileDone
	rowValidationFilePending
	rows
)

// table is client.md 3.2. The columns are the states in the order of the specification:
// SUSPENDED QUEUED CONNECTING TRANSFERRING TRANSIENT_ERROR ERROR TRANSFERRED ACKNOWLEDGED CANCELLED.
//
//	=      the state stays, S_OK          INV    BG_E_INVALID_STATE
//	SUS    becomes SUSPENDED              EMPTY  BG_E_EMPTY
//	QUE    becomes QUEUED                 NOIMP  E_NOTIMPL
//	CAN    becomes CANCELLED              ACTIVE BG_E_READ_ONLY_WHEN_JOB_ACTIVE
//	ACK    becomes ACKNOWLEDGED           RESUM  BG_E_READ_ONLY_PROPERTY_AFTER_RESUME
//	PART   the same, but files that are   ADDF   BG_E_READ_ONLY_PROPERTY_AFTER_ADDFILE
//	       not finished are dropped:      NOERR  BG_E_ERROR_INFORMATION_UNAVAILABLE
//	       BG_S_PARTIAL_COMPLETE          PEND   E_PENDING
//
// Where the specification is silent: Suspend of a TRANSFERRED job changes nothing, Resume of a
// TRANSFERRED job with nothing left to do succeeds and changes nothing, the reply's data can
// be read after Complete, and the certificate callback may be set in ERROR and TRANSFERRED.
var table = parseTable([rows]string{
	rowSuspend:               "=     SUS    SUS    SUS    SUS    SUS   =     INV   INV",
	rowResumeEmpty:           "EMPTY EMPTY  EMPTY  EMPTY  EMPTY  EMPTY EMPTY INV   INV",
	rowResumeWork:            "QUE   =      =      =      QUE    QUE   QUE   INV   INV",
	rowResumeNothingLeft:     "QUE   =      =      =      QUE    QUE   =     INV   INV",
	rowCancel:                "CAN   CAN    CAN    CAN    CAN    CAN   CAN   INV   INV",
	rowCompleteDownload:      "PART  PART   PART   PART   PART   PART  ACK   INV   INV",
	rowCompleteUpload:        "INV   INV    INV    INV    INV    INV   ACK   INV   INV",
	rowAddFile:               "=     =      =      =      =      =     =     INV   INV",
	rowAlways:                "=     =      =      =      =      =     =     INV   INV",
	rowNotImplemented:        "NOIMP NOIMP  NOIMP  NOIMP  NOIMP  NOIMP NOIMP NOIMP NOIMP",
	rowReplyNameOpen:         "=     =      =      =      =      =     INV   INV   INV",
	rowReplyNameBegun:        "=     =      =      INV    INV    INV   INV   INV   INV",
	rowFileACLFlags:          "=     =      =      =      =      =     INV   INV   INV",
	rowCertificateCallback:   "=     ACTIVE ACTIVE ACTIVE ACTIVE =     =     INV   INV",
	rowLockedAfterResume:     "RESUM RESUM  RESUM  RESUM  RESUM  RESUM RESUM INV   INV",
	rowLockedAfterAddFile:    "ADDF  ADDF   ADDF   ADDF   ADDF   ADDF  ADDF  INV   INV",
	rowErrorKept:             "NOERR =      NOERR  NOERR  =      =     NOERR NOERR NOERR",
	rowErrorForgotten:        "NOERR NOERR  NOERR  NOERR  NOERR  NOERR NOERR NOERR NOERR",
	rowReplyData:             "INV   INV    INV    INV    INV    INV   =     =     INV",
	rowValidationFileDone:    "=     =      =      =      =      =     =     INV   INV",
	rowValidationFilePending: "PEND  PEND   PEND   PEND   PEND   PEND  PEND  INV   INV",
})

// columns maps the table's columns to states.
var columns = [States]State{Suspended, Queued, Connecting, Transferring, TransientError, Errored, Transferred, Acknowledged, Cancelled}

func parseTable(text [rows]string) (t [rows][States]Verdict) {
	for r, line := range text {
		cells := strings.Fields(line)
		for i, state := range columns {
			v := Verdict{Next: state}
			switch cells[i] {
			case "=":
			case "SUS":
				v.Next = Suspended
			case "QUE":
				v.Next = Queued
			case "CAN":
				v.Next = Cancelled
			case "ACK":
				v.Next = Acknowledged
			case "PART":
				v = Verdict{Acknowledged, PartialComplete}
			case "INV":
				v.Code = InvalidState
			case "EMPTY":
				v.Code = Empty
			case "NOIMP":
				v.Code = NotImplemented
			case "ACTIVE":
				v.Code = ReadOnlyWhenJobActive
			case "RESUM":
				v.Code = ReadOnlyAfterResume
			case "ADDF":
				v.Code = ReadOnlyAfterAddFile
			case "NOERR":
				v.Code = ErrorInfoUnavailable
			case "PEND":
				v.Code = Pending
			default:
				panic("bits: unknown cell " + cells[i])
			}
			t[r][state] = v
		}
	}
	return t
}

// Decide answers whether a job in state s allows the method m, and what becomes of its state.
// It is the only place that knows.
func Decide(s State, m Method, f Facts) Verdict {
	v := table[rowOf(m, f)][s]
	if v.Code == PartialComplete && f.Files > 0 && f.Unfinished == 0 {
		v.Code = OK
	}
	return v
}

func rowOf(m Method, f Facts) row {
	pick := func(cond bool, yes, no row) row {
		if cond {
			return yes
		}
		return no
	}
	download := f.Type == Download
	switch m {
	case MethodSuspend:
		return rowSuspend
	case MethodResume:
		if f.Files == 0 {
			return rowResumeEmpty
		}
		return pick(f.Unfinished > 0, rowResumeWork, rowResumeNothingLeft)
	case MethodCancel:
		return rowCancel
	case MethodComplete:
		return pick(download, rowCompleteDownload, rowCompleteUpload)
	case MethodAddFile:
		return rowAddFile
	case MethodAddFileWithRanges, MethodReplaceRemotePrefix:
		return pick(download, rowAlways, rowNotImplemented)
	case MethodSetProperty, MethodTakeOwnership:
		return rowAlways
	case MethodSetReplyFileName:
		if f.Type != UploadReply {
			return rowNotImplemented
		}
		return pick(f.ReplyStarted, rowReplyNameBegun, rowReplyNameOpen)
	case MethodSetFileACLFlags:
		return rowFileACLFlags
	case MethodSetCertificateCallback:
		return rowCertificateCallback
	case MethodSetBeforeResume:
		return pick(f.Resumed, rowLockedAfterResume, rowAlways)
	case MethodSetBeforeAddFile:
		return pick(f.Files > 0, rowLockedAfterAddFile, rowAlways)
	case MethodGetError:
		return pick(f.ErrorKept, rowErrorKept, rowErrorForgotten)
	case MethodGetReplyData:
		return pick(f.Type == UploadReply, rowReplyData, rowNotImplemented)
	case MethodSetValidationState:
		return pick(f.FileDone, rowValidationFileDone, rowValidationFilePending)
	}
	panic("bits: unknown method")
}
