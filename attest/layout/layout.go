// Package layout describes evidence field by field, with offsets: what donjon
// inspect prints. Each format's package gives its own fields.
package layout

// Field is one field of a binary format.
type Field struct {
	Offset int    `json:"offset"` // from the start of what was inspected, in bytes
	Size   int    `json:"size"`   // in bytes
	Name   string `json:"name"`   // as the specification spells it, dotted where nested
	Value  string `json:"value"`  // hexadecimal for bytes, decimal for numbers
	Note   string `json:"note,omitempty"`
}

// Shift moves fields by n bytes, for a structure inside another, and puts prefix
// before each name.
func Shift(fields []Field, n int, prefix string) []Field {
	out := make([]Field, len(fields))
	for i, f := range fields {
		f.Offset += n
		f.Name = prefix + f.Name
		out[i] = f
	}
	return out
}
