package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ebbtransfer/ebb/bits"
	"github.com/ebbtransfer/ebb/client"
)

// The exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNoService   = 3
	exitNoJob       = 4
	exitNotAllowed  = 5
	exitState       = 6
	exitInterrupted = 130
)

// exitError carries an exit code and, where there is one, a hint. One without an error was
// told already.
type exitError struct {
	code int
	err  error
	hint string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// told is the error for what was printed already.
func told(code int) error {
	if code == exitDone {
		return nil
	}
	return &exitError{code: code}
}

// usagef is an error in the arguments.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// hinted adds a hint to an error of usagef.
func hinted(err error, format string, args ...any) error {
	var e *exitError
	if !errors.As(err, &e) {
		return &exitError{code: exitCode(err), err: err, hint: fmt.Sprintf(format, args...)}
	}
	e.hint = fmt.Sprintf(format, args...)
	return err
}

// usageOf makes an error of the argument parser one about usage.
func usageOf(cmd *cobra.Command, err error) error {
	return &exitError{code: exitUsage, err: err, hint: fmt.Sprintf("see `%s --help`", cmd.CommandPath())}
}

// exitCode is the exit code for an error.
func exitCode(err error) int {
	var exit *exitError
	var answer *bits.Error
	var ambiguous *client.AmbiguousError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &ambiguous):
		return exitUsage
	case errors.As(err, &answer):
		return codeExit(answer.Code)
	case errors.Is(err, client.ErrNoService):
		if errors.Is(err, os.ErrPermission) {
			return exitNotAllowed
		}
		return exitNoService
	}
	return exitFailed
}

// codeExit is the exit code for an answer of the service. (A job that ended in an error is
// always 1.)
func codeExit(c bits.Code) int {
	switch c {
	case bits.NotFound:
		return exitNoJob
	case bits.AccessDenied:
		return exitNotAllowed
	case bits.InvalidState, bits.PeerCachingDisabled, bits.ReadOnlyAfterAddFile, bits.ReadOnlyAfterResume, bits.ReadOnlyWhenJobActive, bits.Pending, bits.Empty:
		return exitState
	case bits.InvalidArg, bits.StringTooLong, bits.TooManyFilesInJob, bits.NotImplemented:
		return exitUsage
	}
	return exitFailed
}

// printError prints an error as one sentence and, where there is one, a hint.
func (a *app) printError(err error) {
	var exit *exitError
	var answer *bits.Error
	var ambiguous *client.AmbiguousError
	if err == nil || errors.As(err, &exit) && exit.err == nil {
		return
	}
	sentence, hint := err.Error(), ""
	if errors.As(err, &answer) {
		hint = answer.Code.Hint()
	}
	if errors.Is(err, client.ErrNoService) {
		hint = noServiceHint(err)
	}
	if exit != nil && exit.hint != "" {
		hint = exit.hint
	}
	if errors.As(err, &ambiguous) {
		hint = "give the id of one"
	}
	a.printProblem(sentence, hint)
	if ambiguous != nil {
		for _, c := range ambiguous.Candidates {
			_, _ = fmt.Fprintf(a.err, "  %s  %-15s  %s\n", c.ID, c.State, safe(c.Name))
		}
	}
}

func (a *app) printProblem(sentence, hint string) {
	_, _ = fmt.Fprintf(a.err, "%s %s\n", a.errTerm.paint(red, "ebb:"), safe(sentence))
	a.hint(hint)
}

// hint says what would help, if that is known.
func (a *app) hint(hint string) {
	if hint != "" {
		_, _ = fmt.Fprintf(a.err, "hint: %s\n", safe(hint))
	}
}

// note tells a person something that is not an error.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		_, _ = fmt.Fprintf(a.err, "note: %s\n", safe(fmt.Sprintf(format, args...)))
	}
}

// jobError is the sentence and the hint of a job's error.
func jobError(e *bits.ErrorInfo) (sentence, hint string) {
	if e == nil {
		return "the job is in ERROR, and the service does not know why", ""
	}
	file := bits.RedactURL(e.File)
	sentence = e.Message
	if e.File != "" {
		sentence = strings.ReplaceAll(sentence, e.File, file)
	}
	if !strings.Contains(sentence, file) {
		sentence = file + ": " + sentence
	}
	return fmt.Sprintf("%s (%s %s)", sentence, e.Code, e.HResult), e.Hint
}

// insteadOfResume is a sentence or a hint for a job that is cancelled because of its error: it cannot be
// resumed, but another can be made.
func insteadOfResume(text string) string {
	return strings.NewReplacer("then resume the job", "then start the transfer again", "then resume it", "then start the transfer again").Replace(text)
}

// waiting reports whether a job waits for something that no attempt helps against: a network, a
// policy, mains power.
func waiting(s bits.State, e *bits.ErrorInfo) bool {
	return s == bits.TransientError && e != nil && e.Err().Code.Class() == bits.Waiting
}
