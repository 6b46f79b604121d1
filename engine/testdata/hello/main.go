// Hello shows a guest its arguments, environment and standard streams.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
	start := time.Now()
	time.Sleep(2 * time.Millisecond)
	if time.Since(start) < 2*time.Millisecond {
		os.Exit(5)
	}
	fmt.Printf("%q %s %s", os.Args, os.Getenv("WHO"), in)
	os.Exit(7)
}
