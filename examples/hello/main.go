// Command hello greets and says what it was given: its arguments, its
// environment. It is the smallest workload; README.md beside it shows how it is
// run in a Keep.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
)

func main() {
	if err := hello(os.Stdout, os.Args, os.Environ()); err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

// hello writes the greeting. The environment is sorted: its order means nothing.
func hello(w io.Writer, args, env []string) error {
	name := "world"
	if len(args) > 1 {
		name = args[1]
	}
	if _, err := fmt.Fprintf(w, "hello, %s, from a Keep\n", name); err != nil {
		return err
	}
	for i, a := range args {
		fmt.Fprintf(w, "argument %d: %q\n", i, a)
	}
	for _, e := range slices.Sorted(slices.Values(env)) {
		fmt.Fprintf(w, "environment: %q\n", e)
	}
	return nil
}
