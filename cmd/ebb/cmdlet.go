package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// What a parameter of a cmdlet takes.
type paramKind uint8

const (
	oneText  paramKind = iota // a string
	texts                     // strings, separated by commas
	oneWord                   // one of a set, or with flags several joined by commas
	number                    // a whole number
	switched                  // nothing, or :$true and :$false
)

// A param is a parameter of a cmdlet.
type param struct {
	name     string
	kind     paramKind
	aliases  []string
	at       int // position without a name, from 1; 0 is by name only
	required bool
	words    []string // of oneWord
	flags    bool     // several words are one set
	least    int      // of number
	// begins tells whether what follows a comma begins another string; nil splits at each comma.
	begins func(before, next string) bool
}

// actions are what can be done about an error, a warning and the like.
var actions = []string{"Break", "Continue", "Ignore", "Inquire", "SilentlyContinue", "Stop", "Suspend"}

// common are the parameters that every cmdlet has. Those that name variables of PowerShell are
// known, so that a script's command line is understood, and mean nothing here; nor do -Debug,
// -WarningAction and -InformationAction, as the cmdlets say nothing of these kinds.
var common = []param{
	{name: "Verbose", kind: switched, aliases: []string{"vb"}},
	{name: "Debug", kind: switched, aliases: []string{"db"}},
	{name: "ErrorAction", kind: oneWord, aliases: []string{"ea"}, words: actions},
	{name: "WarningAction", kind: oneWord, aliases: []string{"wa"}, words: actions},
	{name: "InformationAction", kind: oneWord, aliases: []string{"infa"}, words: actions},
	{name: "ProgressAction", kind: oneWord, aliases: []string{"proga"}, words: actions},
	{name: "ErrorVariable", aliases: []string{"ev"}},
	{name: "WarningVariable", aliases: []string{"wv"}},
	{name: "InformationVariable", aliases: []string{"iv"}},
	{name: "OutVariable", aliases: []string{"ov"}},
	{name: "OutBuffer", aliases: []string{"ob"}},
	{name: "PipelineVariable", aliases: []string{"pv"}},
}

// unattended are those of all cmdlets that change something.
var unattended = []param{
	{name: "WhatIf", kind: switched, aliases: []string{"wi"}},
	{name: "Confirm", kind: switched, aliases: []string{"cf"}},
}

// arguments are the parameters that a command line gives, by their full names: strings of every
// kind, "true" or "false" of a switch.
type arguments map[string][]string

func (g arguments) has(name string) bool { _, ok := g[name]; return ok }

func (g arguments) text(name string) string { return strings.Join(g[name], ",") }

// on reports whether a switch is given, and not as :$false.
func (g arguments) on(name string) bool { return g.text(name) == "true" }

// parseCmdlet reads a command line as PowerShell does: names in any case, abbreviated as far as
// they are unique, by an alias, with the value in the next argument or after a colon; and values
// without a name by position. A list is separated by commas, in one argument or in several.
func parseCmdlet(params []param, args []string) (arguments, error) {
	given := arguments{}
	var loose [][]string // values without a name
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !isParam(arg) {
			var list []string
			list, i = gather(args, i)
			loose = append(loose, list)
			continue
		}
		name, value, colon := strings.Cut(arg[1:], ":")
		p, err := findParam(params, name)
		if err != nil {
			return nil, err
		}
		if given.has(p.name) {
			return nil, usagef("the parameter -%s is specified more than once", p.name)
		}
		if p.kind == switched {
			switch {
			case !colon, strings.EqualFold(value, "$true"):
				given[p.name] = []string{"true"}
			case strings.EqualFold(value, "$false"):
				given[p.name] = []string{"false"}
			default:
				return nil, usagef("-%s:%s: want $true or $false", p.name, value)
			}
			continue
		}
		var list []string
		if colon && value != "" {
			args[i] = value
			list, i = gather(args, i)
		} else {
			if i++; i == len(args) || isParam(args[i]) {
				return nil, usagef("missing an argument for parameter '%s'", p.name)
			}
			list, i = gather(args, i)
		}
		if given[p.name], err = p.values(list); err != nil {
			return nil, err
		}
	}
	var places []param
	for _, p := range params {
		if p.at > 0 && !given.has(p.name) {
			places = append(places, p)
		}
	}
	slices.SortStableFunc(places, func(a, b param) int { return a.at - b.at })
	for i, list := range loose {
		if i >= len(places) || places[i].kind == switched {
			return nil, usagef("a positional parameter cannot be found that accepts argument '%s'", strings.Join(list, ","))
		}
		var err error
		if given[places[i].name], err = places[i].values(list); err != nil {
			return nil, err
		}
	}
	return given, nil
}

// isParam reports whether an argument is the name of a parameter: a negative number is none.
func isParam(arg string) bool {
	return len(arg) > 1 && arg[0] == '-' && (arg[1] >= 'a' && arg[1] <= 'z' || arg[1] >= 'A' && arg[1] <= 'Z')
}

// gather takes the list that begins at an argument: what ends in a comma goes on in the next
// argument, and so does what is followed by one that begins with a comma.
func gather(args []string, i int) (list []string, last int) {
	list = []string{args[i]}
	for i+1 < len(args) && (strings.HasSuffix(args[i], ",") || strings.HasPrefix(args[i+1], ",")) {
		i++
		list = append(list, args[i])
	}
	return list, i
}

// findParam returns the parameter that a name, an alias or the beginning of a name means.
func findParam(params []param, name string) (param, error) {
	var fit []param
	for _, p := range params {
		if strings.EqualFold(p.name, name) || slices.ContainsFunc(p.aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return p, nil
		}
		if len(name) > 0 && len(name) < len(p.name) && strings.EqualFold(p.name[:len(name)], name) {
			fit = append(fit, p)
		}
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		return param{}, usagef("a parameter cannot be found that matches parameter name '%s'", name)
	}
	var names []string
	for _, p := range fit {
		names = append(names, "-"+p.name)
	}
	return param{}, usagef("the parameter name '%s' is ambiguous; possible matches include: %s", name, strings.Join(names, " "))
}

// values reads the arguments of a parameter.
func (p *param) values(list []string) ([]string, error) {
	if p.kind == texts {
		var all []string
		for _, arg := range list {
			all = append(all, p.split(arg)...)
		}
		if len(all) == 0 {
			return nil, usagef("missing an argument for parameter '%s'", p.name)
		}
		return all, nil
	}
	value := strings.Join(list, "")
	switch p.kind {
	case number:
		n, err := strconv.ParseInt(value, 0, 32)
		if err != nil {
			return nil, usagef("-%s %s: want a whole number", p.name, value)
		}
		if int(n) < p.least {
			return nil, usagef("-%s %s: the argument is less than the minimum allowed range of %d", p.name, value, p.least)
		}
		return []string{strconv.FormatInt(n, 10)}, nil
	case oneWord:
		if p.flags {
			if n, err := strconv.ParseUint(value, 0, 32); err == nil {
				return []string{fmt.Sprint(n)}, nil
			}
			var all []string
			for word := range strings.SplitSeq(value, ",") {
				w, err := p.word(strings.TrimSpace(word))
				if err != nil {
					return nil, err
				}
				all = append(all, w)
			}
			return all, nil
		}
		w, err := p.word(value)
		return []string{w}, err
	case oneText, texts, switched:
	}
	return []string{value}, nil
}

// word returns the spelling of one of the parameter's words.
func (p *param) word(value string) (string, error) {
	for _, w := range p.words {
		if strings.EqualFold(w, value) {
			return w, nil
		}
	}
	return "", usagef("-%s %s: the argument does not belong to the set %q", p.name, value, strings.Join(p.words, ","))
}

// split splits a list at its commas.
func (p *param) split(arg string) []string {
	var all []string
	for part := range strings.SplitSeq(arg, ",") {
		trimmed := strings.TrimSpace(part)
		if len(all) > 0 && p.begins != nil && trimmed != "" && !p.begins(all[len(all)-1], trimmed) {
			all[len(all)-1] += "," + part
			continue
		}
		if trimmed != "" {
			all = append(all, trimmed)
		}
	}
	return all
}

// beginsSource tells whether a comma separates two sources or destinations: in a URL it may stand
// for itself.
func beginsSource(before, next string) bool {
	return !strings.Contains(before, "://") || strings.Contains(next, "://") || strings.HasPrefix(next, "/")
}

// beginsHeader tells whether what follows a comma is another header rather than more of a value.
func beginsHeader(_, next string) bool {
	name, _, ok := strings.Cut(next, ":")
	return ok && name != "" && !strings.ContainsAny(name, " \"/=;")
}

// beginsParameters tells whether a comma separates a program from its parameters: the first does.
func beginsParameters(before, _ string) bool {
	return !strings.Contains(before, " ") && !strings.Contains(before, ",")
}
