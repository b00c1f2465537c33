package policy

import "strings"

// Suggest returns which of the names is meant by a wrong one, or "".
func Suggest(name string, names []string) string {
	if len(name) > 64 {
		return ""
	}
	for _, n := range names {
		if strings.HasSuffix(strings.ToLower(n), "."+strings.ToLower(name)) {
			return n // its table is missing
		}
	}
	best, most := "", max(2, len(name)/4) // letters that may differ
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d <= most {
			best, most = n, d-1
		}
	}
	return best
}

// distance is the number of letters to change, add or leave out that makes one of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
