// Package linediff shows what changed between two policies, line by line.
package linediff

import "strings"

// most bounds the work of one comparison, in pairs of lines.
const most = 1 << 20

// Texts is Lines of two texts.
func Texts(a, b string) []string { return Lines(lines(a), lines(b)) }

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// Lines marks what is taken away ("- "), added ("+ ") and kept ("  "), by the longest
// common subsequence; where there are too many for that, all of both.
func Lines(a, b []string) []string {
	var out []string
	if len(a)*len(b) > most {
		for _, x := range a {
			out = append(out, "- "+x)
		}
		for _, x := range b {
			out = append(out, "+ "+x)
		}
		return out
	}
	table := make([][]int, len(a)+1)
	for i := range table {
		table[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out = append(out, "  "+a[i])
			i, j = i+1, j+1
		case i < len(a) && (j == len(b) || table[i+1][j] >= table[i][j+1]):
			out = append(out, "- "+a[i])
			i++
		default:
			out = append(out, "+ "+b[j])
			j++
		}
	}
	return out
}
