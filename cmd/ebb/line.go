package main

import (
	"strings"

	"github.com/mattn/go-runewidth"
)

// look is what a terminal can show.
type look struct {
	colour bool
	utf8   bool
}

// ellipsis stands for what was cut.
func (k look) ellipsis() string {
	if k.utf8 {
		return "…"
	}
	return "~"
}

// line is a line of the screen while it is written from left to right. What does not fit is cut.
type line struct {
	look
	width int    // columns there are
	at    int    // the next column
	all   string // style that everything has; takes the place of others
	style string // style in force
	text  strings.Builder
}

func (k look) line(width int) *line { return &line{look: k, width: width} }

// add writes text in a style, which is none of the terminal's colours if it is empty.
func (l *line) add(style, s string) {
	if s == "" || l.at >= l.width {
		return
	}
	if !l.fits(s) {
		s = runewidth.Truncate(s, l.width-l.at, l.ellipsis())
	}
	if l.all != "" {
		style = l.all
	}
	if style != l.style && l.colour {
		if l.style != "" {
			l.text.WriteString("\x1b[0m")
		}
		if style != "" {
			l.text.WriteString("\x1b[" + style + "m")
		}
		l.style = style
	}
	l.at += runewidth.StringWidth(s)
	l.text.WriteString(s)
}

// right writes text that ends before a column.
func (l *line) right(style, s string, end int) {
	l.tab(end - runewidth.StringWidth(s))
	l.add(style, s)
}

// tab goes on at a column, if the line has not come as far.
func (l *line) tab(column int) {
	if n := min(column, l.width) - l.at; n > 0 {
		l.add("", strings.Repeat(" ", n))
	}
}

// fits reports whether there is room for a text.
func (l *line) fits(s string) bool { return runewidth.StringWidth(s) <= l.width-l.at }

func (l *line) String() string {
	if l.style != "" && l.colour {
		return l.text.String() + "\x1b[0m"
	}
	return strings.TrimRight(l.text.String(), " ")
}
