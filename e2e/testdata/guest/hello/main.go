// Command hello prints its arguments and environment.
package main

import (
	"fmt"
	"os"
)

func main() { fmt.Println("hello", os.Args, os.Environ()) }
