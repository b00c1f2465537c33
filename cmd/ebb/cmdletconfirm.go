package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"
)

// errNobodyToAsk is that -Confirm is given where nobody answers.
var errNobodyToAsk = errors.New("there is nobody to answer the question of -Confirm")

// cmdletQuestion is what -Confirm asks, and what was answered for all that follows.
type cmdletQuestion struct {
	in      *bufio.Reader
	out     io.Writer
	yes, no bool // to all
}

// confirm asks as PowerShell does whether to do something. The standard input may be the pipeline, so
// that answers come from a terminal and from nothing else.
func (c *cmdletCall) confirm(what string) (bool, error) {
	if c.asking == nil {
		q, err := c.a.terminalToAsk()
		if err != nil {
			return false, err
		}
		c.asking = q
	}
	q := c.asking
	for !q.yes && !q.no {
		_, _ = fmt.Fprintf(q.out, "\nConfirm\nAre you sure you want to perform this action?\n%s\n"+
			"[Y] Yes  [A] Yes to All  [N] No  [L] No to All  [?] Help (default is \"Y\"): ", what)
		line, err := q.in.ReadString('\n')
		if err != nil { // Ctrl+D is no answer
			return false, usagef("%w: the input has ended", errNobodyToAsk)
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "", "y", "yes":
			return true, nil
		case "n", "no":
			return false, nil
		case "a":
			q.yes = true
		case "l":
			q.no = true
		default:
			_, _ = fmt.Fprint(q.out, "Y - do this and ask again.\nA - do this and all that follows.\nN - leave this out and ask again.\nL - leave out this and all that follows.\n")
		}
	}
	return q.yes, nil
}

// terminalToAsk returns the terminal of the standard streams or, where one of them is something else,
// the one that the caller sits at.
func (a *app) terminalToAsk() (*cmdletQuestion, error) {
	if in, ok := a.in.(*os.File); ok && a.errTerm.is && term.IsTerminal(int(in.Fd())) {
		return &cmdletQuestion{in: bufio.NewReader(in), out: a.err}, nil
	}
	in, out := "/dev/tty", "/dev/tty"
	if runtime.GOOS == "windows" {
		in, out = "CONIN$", "CONOUT$"
	}
	r, err := os.Open(in)
	if err == nil {
		var w *os.File
		if w, err = os.OpenFile(out, os.O_WRONLY, 0); err == nil {
			return &cmdletQuestion{in: bufio.NewReader(r), out: w}, nil
		}
		_ = r.Close()
	}
	return nil, hinted(usagef("%w: there is no terminal", errNobodyToAsk), "leave -Confirm out, or give -Confirm:$false")
}
