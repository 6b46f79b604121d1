package main

import (
	"errors"
	"strings"
	"testing"
)

func TestHello(t *testing.T) {
	for _, tt := range []struct {
		name      string
		args, env []string
		want      string
	}{
		{"nothing given", nil, nil, "hello, world, from a Keep\n"},
		{"a name", []string{"main.wasm", "Ada"}, nil, "hello, Ada, from a Keep\nargument 0: \"main.wasm\"\nargument 1: \"Ada\"\n"},
		{"environment is sorted", []string{"m"}, []string{"B=2", "A=1"}, "hello, world, from a Keep\nargument 0: \"m\"\nenvironment: \"A=1\"\nenvironment: \"B=2\"\n"},
		{"control characters are escaped", []string{"m", "x"}, []string{"A=\x1b[2J"}, "hello, x, from a Keep\nargument 0: \"m\"\nargument 1: \"x\"\nenvironment: \"A=\\x1b[2J\"\n"},
	} {
		var b strings.Builder
		if err := hello(&b, tt.args, tt.env); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if b.String() != tt.want {
			t.Errorf("%s: found %q, wanted %q", tt.name, b.String(), tt.want)
		}
	}
}

type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("closed") }

func TestHelloSaysThatOutputIsClosed(t *testing.T) {
	if hello(closed{}, nil, nil) == nil {
		t.Error("no error although nothing could be written")
	}
}
