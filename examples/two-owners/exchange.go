package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const (
	maxTable  = 16 << 20 // bytes of one owner's data
	fewest    = 10       // customers in common: of fewer nothing is told
	maxAnswer = 1 << 10
)

// A table is what one owner knows: cents by customer.
type table map[string]uint64

// readTable reads lines of customer,cents. One customer may stand in many lines.
func readTable(r io.Reader) (table, error) {
	t := table{}
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		who, cents, ok := strings.Cut(strings.TrimSpace(s.Text()), ",")
		v, err := strconv.ParseUint(cents, 10, 40)
		if !ok || who == "" || err != nil {
			return nil, fmt.Errorf("line %d: wanted customer,cents", n)
		}
		t[who] += v
	}
	return t, s.Err()
}

// write gives the table in the form that readTable takes, sorted.
func (t table) write(w io.Writer) error {
	names := make([]string, 0, len(t))
	for who := range t {
		names = append(names, who)
	}
	slices.Sort(names)
	var b bytes.Buffer
	for _, who := range names {
		fmt.Fprintf(&b, "%s,%d\n", who, t[who])
	}
	_, err := w.Write(b.Bytes())
	return err
}

// result is all that anybody is told.
func result(a, b table) string {
	var both, cents uint64
	for who, x := range a {
		if y, ok := b[who]; ok {
			both, cents = both+1, cents+x+y
		}
	}
	if both < fewest {
		return fmt.Sprintf("fewer than %d customers in common\n", fewest)
	}
	return fmt.Sprintf("customers in common: %d\nspent by them, both together: %d.%02d\n", both, cents/100, cents%100)
}

// alice has the other's table sent over the attested connection, computes, and sends
// the result back.
func alice(c io.ReadWriteCloser, mine table) (string, error) {
	defer c.Close()
	r := bufio.NewReader(c)
	theirs, err := readFrame(r, maxTable)
	if err != nil {
		return "", err
	}
	t, err := readTable(bytes.NewReader(theirs))
	if err != nil {
		return "", fmt.Errorf("the other Keep's table: %w", err)
	}
	out := result(mine, t)
	return out, writeFrame(c, []byte(out))
}

// bob sends its table to the other Keep and takes the result.
func bob(c io.ReadWriteCloser, mine table) (string, error) {
	defer c.Close()
	var b bytes.Buffer
	if err := mine.write(&b); err != nil {
		return "", err
	}
	if err := writeFrame(c, b.Bytes()); err != nil {
		return "", err
	}
	out, err := readFrame(bufio.NewReader(c), maxAnswer)
	return string(out), err
}

// A frame is its length in decimal, a newline, and its bytes.
func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append([]byte(strconv.Itoa(len(b))+"\n"), b...))
	return err
}

func readFrame(r *bufio.Reader, most int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("the other Keep ended: %w", err)
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(string(line), "\n"), 10, 32)
	if err != nil || n > uint64(most) {
		return nil, errors.New("the other Keep sends more than it may")
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, r, int64(n)); err != nil {
		return nil, fmt.Errorf("the other Keep ended: %w", err)
	}
	return b.Bytes(), nil
}
