// Command analytics groups the sales that it reads as CSV on stdin by region and
// product and prints a line a group. It holds the groups in memory, never the
// rows: input may be of any length. generate/ beside it makes the input.
package main

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "analytics:", err)
		os.Exit(1)
	}
}

// maxGroups bounds the memory that a hostile input can take.
const maxGroups = 100_000

// header is the first row that the input must have; the price is in cents.
var header = []string{"day", "region", "product", "quantity", "price"}

type key struct{ region, product string }

// group sums up in 64-bit integers: quantity and price are each below 2^31, so
// that a product of both stays below 2^62; sums are checked.
type group struct {
	key
	rows, quantity, revenue int64
	low, high               int64 // the least and greatest price
}

var errOverflow = errors.New("a sum no longer fits 64 bits")

func run(r io.Reader, w io.Writer) error {
	groups, err := aggregate(bufio.NewReaderSize(r, 256<<10))
	if err != nil {
		return err
	}
	return report(w, groups)
}

func aggregate(r io.Reader) (map[key]*group, error) {
	rows := csv.NewReader(r)
	rows.ReuseRecord = true
	rows.FieldsPerRecord = len(header)
	first, err := rows.Read()
	if err != nil {
		return nil, fmt.Errorf("reading the header: %w", err)
	}
	if !slices.Equal(first, header) {
		return nil, fmt.Errorf("the header is %q, wanted %q", first, header)
	}
	groups := map[key]*group{}
	for {
		row, err := rows.Read()
		if err == io.EOF {
			return groups, nil
		}
		if err != nil {
			return nil, err
		}
		if err := add(groups, row); err != nil {
			line, _ := rows.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
	}
}

func add(groups map[key]*group, row []string) error {
	quantity, err := amount(row[3])
	if err != nil {
		return fmt.Errorf("quantity: %w", err)
	}
	price, err := amount(row[4])
	if err != nil {
		return fmt.Errorf("price: %w", err)
	}
	k := key{row[1], row[2]}
	g := groups[k]
	if g == nil {
		if len(groups) == maxGroups {
			return fmt.Errorf("more than %d groups", maxGroups)
		}
		g = &group{key: k, low: price, high: price}
		groups[k] = g
	}
	g.rows++
	g.quantity += quantity
	g.revenue += quantity * price
	g.low, g.high = min(g.low, price), max(g.high, price)
	if g.revenue < 0 || g.quantity < 0 {
		return errOverflow
	}
	return nil
}

// amount reads a whole number from 0 to 2^31-1.
func amount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int64(n), err
}

// report writes the groups, greatest revenue first, and a last line of totals.
func report(w io.Writer, groups map[key]*group) error {
	list := make([]*group, 0, len(groups))
	total := group{key: key{"all", "all"}}
	for _, g := range groups {
		if len(list) == 0 {
			total.low, total.high = g.low, g.high
		}
		list = append(list, g)
		total.rows += g.rows
		total.quantity += g.quantity
		total.revenue += g.revenue
		total.low, total.high = min(total.low, g.low), max(total.high, g.high)
		if total.revenue < 0 || total.quantity < 0 {
			return errOverflow
		}
	}
	slices.SortFunc(list, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.revenue, a.revenue), cmp.Compare(a.region, b.region), cmp.Compare(a.product, b.product))
	})
	out := bufio.NewWriter(w)
	fmt.Fprintln(out, "region,product,rows,quantity,revenue,mean_price,low,high")
	rows := csv.NewWriter(out)
	for _, g := range append(list, &total) {
		if err := rows.Write(g.record()); err != nil {
			return err
		}
	}
	rows.Flush()
	if err := rows.Error(); err != nil {
		return err
	}
	return out.Flush()
}

func (g *group) record() []string {
	mean := int64(0)
	if g.quantity > 0 {
		mean = g.revenue / g.quantity
	}
	return []string{
		g.region, g.product, strconv.FormatInt(g.rows, 10), strconv.FormatInt(g.quantity, 10),
		money(g.revenue), money(mean), money(g.low), money(g.high),
	}
}

// money writes cents as a decimal number.
func money(cents int64) string {
	return fmt.Sprintf("%d.%02d", cents/100, cents%100)
}
