package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/ebbtransfer/ebb/bits"
)

// The colours and styles of a terminal.
const (
	bold    = "1"
	dim     = "2"
	reverse = "7"
	red     = "31"
	green   = "32"
	yellow  = "33"
	magenta = "35"
	cyan    = "36"
)

func (t terminal) paint(colour, s string) string {
	if !t.colour || colour == "" || s == "" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// stateColour is the colour in which people find a state at a glance.
func stateColour(s bits.State) string {
	switch s {
	case bits.Errored:
		return red
	case bits.TransientError:
		return yellow
	case bits.Transferred, bits.Acknowledged:
		return green
	}
	return ""
}

// garbles reports whether a character could garble a terminal or deceive its reader: control
// characters, and those that change the direction of text.
func garbles(r rune) bool {
	return unicode.IsControl(r) || r == utf8.RuneError || r >= 0x200e && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// password finds the passwords of URLs in a text.
var password = regexp.MustCompile(`(://[^/?#\s"'<>:@]*):[^/?#\s"'<>]*@`)

// safe makes what came from outside fit to be shown: what could garble a terminal is escaped,
// and URLs lose their passwords, which end up in logs and over people's shoulders.
func safe(s string) string {
	if strings.Contains(s, "@") {
		s = password.ReplaceAllString(s, "$1:xxxxx@")
	}
	if strings.IndexFunc(s, garbles) < 0 {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == utf8.RuneError || !garbles(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// safeURL is safe for what is a URL, or was meant as one.
func safeURL(s string) string { return safe(bits.RedactURL(s)) }

// size writes a number of bytes in IEC units with one decimal.
func size[T ~int64](n T) string {
	if n < 0 {
		return "?"
	}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n), "KMGTPE"
	i := -1
	for f >= 1023.95 { // 1023.95 would be written as 1024.0
		f /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", f, units[max(i, 0)])
}

// progressText is how far a job is: "1.2 GiB / 4.0 GiB 30%".
func progressText(p bits.Progress) string {
	if p.FilesTotal == 0 {
		return "-"
	}
	return amount(p.BytesTransferred, p.BytesTotal)
}

func amount(done int64, total bits.Size) string {
	if total < 0 {
		return size(done) + " / ?"
	}
	return fmt.Sprintf("%s / %s %d%%", size(done), size(total), percent(done, total))
}

// listedProgress is progressText for a table: "30% of 4.0 GiB".
func listedProgress(p bits.Progress) string {
	if p.FilesTotal == 0 || p.BytesTotal < 0 {
		return progressText(p)
	}
	return fmt.Sprintf("%d%% of %s", percent(p.BytesTransferred, p.BytesTotal), size(p.BytesTotal))
}

// rate writes a number of bytes per second.
func rate(n int64) string { return size(n) + "/s" }

// paceText is how fast a job moves and why.
func paceText(p bits.Pace) string {
	if p.State == bits.PaceShared || p.State == bits.PaceSilent {
		return safe(p.Why)
	}
	return rate(p.Rate) + ", " + safe(p.Why)
}

// heldBack says in two words why a job moves no faster than it does, or nothing where nothing
// that a person must know of holds it back.
func heldBack(p *bits.Pace) string {
	if p == nil {
		return ""
	}
	switch p.State {
	case bits.PaceProbing:
		return "probing"
	case bits.PaceYielding:
		return "giving way"
	case bits.PaceCapped:
		return "capped by policy"
	case bits.PaceShared:
		return "fetched by another"
	case bits.PaceSilent:
		return "server silent"
	case bits.PaceUnrestricted, bits.PaceIdle:
	}
	return ""
}

// percent is 100 only when nothing is left.
func percent(done int64, total bits.Size) int {
	if done >= int64(total) {
		return 100
	}
	return int(float64(done) / float64(total) * 100)
}

// duration writes a time span for people, in its two largest units.
func duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 3600:
		return fmt.Sprintf("%d min %02d s", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%d h %02d min", s/3600, s/60%60)
	}
	return fmt.Sprintf("%d d %02d h", s/86400, s/3600%24)
}

// moment writes a time as the local clock shows it and how long ago or ahead it is.
func moment(t, now time.Time) string {
	return t.Local().Format("2006-01-02 15:04:05") + " (" + relative(t, now) + ")"
}

func relative(t, now time.Time) string {
	d := now.Sub(t)
	if d < 0 {
		return "in " + span(-d)
	}
	if d < time.Second {
		return "just now"
	}
	return span(d) + " ago"
}

// span writes a time span in its largest unit.
func span(d time.Duration) string {
	units := []struct {
		d          time.Duration
		one, other string
	}{{24 * time.Hour, "day", "days"}, {time.Hour, "hour", "hours"}, {time.Minute, "min", "min"}}
	for _, u := range units {
		if n := int64(d / u.d); n == 1 {
			return "1 " + u.one
		} else if n > 1 {
			return fmt.Sprintf("%d %s", n, u.other)
		}
	}
	return fmt.Sprintf("%d s", int64(d/time.Second))
}

// filesText writes a number of files.
func filesText(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

// shortID is the part of an id that people read.
func shortID(id bits.ID) string { return id.String()[:8] }

// jobJSON is a job as programs read it: the list of files is there even when it is empty.
type jobJSON struct {
	*bits.Job
	Files []bits.File `json:"files"`
}

func asJSON(j *bits.Job) jobJSON {
	if j.Files == nil {
		return jobJSON{j, []bits.File{}}
	}
	return jobJSON{j, j.Files}
}

// printJSON prints v, indented, on the standard output.
func (a *app) printJSON(v any) error { return writeJSON(a.outTerm.forJSON(a.out), v, "  ") }

// forJSON makes a stream fit for JSON: on a terminal, what could garble it is escaped.
func (t terminal) forJSON(w io.Writer) io.Writer {
	if !t.is {
		return w
	}
	return &jsonEscaper{w: w}
}

// jsonEscaper writes JSON with what JSON lets through and terminals do not like as \u escapes.
type jsonEscaper struct {
	w    io.Writer
	part []byte // the beginning of a character whose end is to come
}

func (e *jsonEscaper) Write(p []byte) (int, error) {
	var out []byte
	in := slices.Concat(e.part, p)
	for len(in) > 0 && utf8.FullRune(in) {
		r, n := utf8.DecodeRune(in)
		switch {
		case r == utf8.RuneError:
			out = append(out, `\ufffd`...)
		case garbles(r) && r != '\n' && r != '\t' && r != '\r':
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, in[:n]...)
		}
		in = in[n:]
	}
	e.part = bytes.Clone(in)
	if _, err := e.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeJSON leaves '&' in URLs as it is: no browser reads this.
func writeJSON(w io.Writer, v any, indent string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	return enc.Encode(v)
}

// printf prints a line for people on the standard output.
func (a *app) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(a.out, format, args...)
}
