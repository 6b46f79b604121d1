// Command act does what its first argument says: a guest for the ways to end.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	switch os.Args[1] {
	case "exit":
		n, _ := strconv.Atoi(os.Args[2])
		os.Exit(n)
	case "sleep":
		fmt.Println("ready")
		time.Sleep(24 * time.Hour)
	case "spin":
		fmt.Println("ready")
		for i := uint64(0); ; i++ {
			sink = i
		}
	case "grow":
		for {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			kept = append(kept, b)
		}
	case "flood":
		for {
			fmt.Println("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx")
		}
	case "cat":
		if _, err := io.Copy(os.Stdout, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "env":
		fmt.Println(os.Getenv(os.Args[2]))
	case "holds": // a secret, in a variable and a file, which it tells nobody
		b, err := os.ReadFile(os.Args[3])
		want := os.Args[4]
		hash := func(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }
		if err != nil || hash(b) != want || hash([]byte(os.Getenv(os.Args[2]))) != want {
			fmt.Println("another secret", err)
			os.Exit(1)
		}
		if os.WriteFile(os.Args[3], nil, 0o600) == nil || os.Remove(os.Args[3]) == nil || os.WriteFile(os.Args[3]+"x", nil, 0o600) == nil {
			fmt.Println("the folder of secrets can be written")
			os.Exit(1)
		}
		fmt.Println("holds it")
		time.Sleep(24 * time.Hour)
	case "read":
		b, err := os.ReadFile(os.Args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(b)
	case "send": // on the connection that is descriptor 3, and is gone
		n, _ := strconv.Atoi(os.Args[2])
		if _, err := os.NewFile(3, "peer").Write(make([]byte, n)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "write":
		if err := os.WriteFile(os.Args[2], []byte(os.Args[3]), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

var (
	sink uint64
	kept [][]byte
)
