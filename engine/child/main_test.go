//go:build linux

package child

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"
)

// The test binary is also the child: Spawn starts it anew with the argument
// "exec". What it does then is said on its standard input.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "exec" {
		os.Exit(play())
	}
	os.Exit(m.Run())
}

func play() int {
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 1
	}
	mode, arg, _ := strings.Cut(string(b), "|")
	none := func() ([]string, error) { return nil, nil }
	nothing := func(string) ([]string, error) { return nil, nil }
	missing := func() ([]string, error) { return []string{"a wall"}, unix.ENOSYS }
	switch mode {
	case "child": // the real one, unconfined; arg is its cache folder
		return Main(Hooks{Compiling: nothing, Running: none, CacheDir: arg})
	case "no first wall": // the real one, whose walls cannot be raised
		return Main(Hooks{Compiling: func(string) ([]string, error) { return missing() }, Running: none, CacheDir: arg})
	case "no last wall":
		return Main(Hooks{Compiling: nothing, Running: missing, CacheDir: arg})
	}
	return fake(mode)
}

// fake is a child that does not keep to the protocol.
func fake(mode string) int {
	if _, _, err := receive(controlFD, 0); err != nil { // confine
		return 1
	}
	const some = 0 // a descriptor that is one: standard input
	say := func(e event, fds ...int) {
		b, _ := cbor.Marshal(e)
		_ = send(controlFD, b, fds)
	}
	ready := event{Kind: eventReady}
	switch mode {
	case "compiled before ready":
		say(event{Kind: eventCompiled, CacheName: "evil"}, some)
		return 0
	case "failed before ready":
		say(event{Kind: eventFailed, Text: "no"}, some)
		return 0
	case "done before ready":
		say(event{Kind: eventDone}, some)
		return 0
	case "garbage before ready":
		_ = send(controlFD, []byte("\xff\x00garbage"), []int{some})
		return 0
	case "nothing before ready":
		return 0
	case "silent before ready":
		_, _, _ = receive(controlFD, 1) // what to compile
		_, _, _ = receive(controlFD, 0) // the warden says nothing more
		return 0
	case "two slots":
		say(ready, some, some)
		return 0
	case "ready twice":
		say(ready, some)
		say(ready, some)
	case "no slot":
		say(ready)
	default:
		say(ready, some)
	}
	for _, fds := range []int{1, 0} { // what to compile, and whether code comes
		if _, _, err := receive(controlFD, fds); err != nil {
			return 1
		}
	}
	compiled := func() { // as it should be, up to the guest's start
		say(event{Kind: eventCompiled})
		_, fds, _ := receive(controlFD, MaxDescriptors+1)
		closeAll(fds)
	}
	switch mode {
	case "ready twice": // it was
	case "garbage":
		_ = send(controlFD, []byte("\xff\x00garbage"), nil)
	case "trailing":
		b, _ := cbor.Marshal(event{Kind: eventCompiled})
		_ = send(controlFD, append(b, 0), nil)
	case "twice": // a key that stands twice
		_ = send(controlFD, []byte{0xa2, 1, 1, 1, 2}, nil)
	case "unknown": // a key that is none
		_ = send(controlFD, []byte{0xa2, 1, 1, 0x18, 99, 1}, nil)
	case "nested":
		_ = send(controlFD, bytes.Repeat([]byte{0x81}, 1<<13), nil)
	case "long":
		_ = send(controlFD, make([]byte, maxMessage+1), nil)
	case "empty":
		_ = send(controlFD, nil, nil)
	case "descriptors":
		say(event{Kind: eventCompiled, CacheName: "x"}, some, some, some, some)
	case "two descriptors":
		say(event{Kind: eventCompiled, CacheName: "x"}, some, some)
	case "kind 0":
		say(event{}, some)
	case "kind 99":
		say(event{Kind: 99}, some)
	case "done at once":
		say(event{Kind: eventDone}, some)
	case "failed with code":
		say(event{Kind: eventFailed, Text: "no"}, some)
	case "code after the start":
		compiled()
		say(event{Kind: eventCompiled, CacheName: "evil"}, some)
	case "ready after the start":
		compiled()
		say(ready, some)
	case "code at the end", "no slot", "a slot nobody wants":
		compiled()
		say(event{Kind: eventDone, Status: 7}, some)
	case "garbage after the start":
		compiled()
		_ = send(controlFD, []byte("garbage"), []int{some})
	case "many events":
		for unix.Sendmsg(controlFD, []byte{0xa1, 1, 1}, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT) == nil {
		}
	case "silent":
		_, _, _ = receive(controlFD, 0) // the warden says nothing more
	case "nothing":
	default:
		return 2
	}
	return 0
}
