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
	none := func(bool) ([]string, error) { return nil, nil }
	switch mode {
	case "child": // the real one, unconfined; arg is its cache folder
		return Main(Hooks{Compiling: none, Running: none, CacheDir: arg})
	case "unconfined": // the real one, whose last wall cannot be raised
		return Main(Hooks{Compiling: none, Running: func(bool) ([]string, error) { return nil, unix.ENOSYS }, CacheDir: arg})
	}
	_, fds, err := receive(controlFD, MaxDescriptors+1)
	if err != nil {
		return 1
	}
	say := func(e event, n int) { // an event with n descriptors
		b, _ := cbor.Marshal(e)
		_ = send(controlFD, b, fds[:n])
	}
	compiled := func() { // as it should be, up to the guest's start
		say(event{Kind: eventCompiled}, 0)
		_, _, _ = receive(controlFD, 0)
	}
	switch mode {
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
		fds = append(fds, fds...)
		say(event{Kind: eventCompiled, CacheName: "x"}, 4)
	case "kind 0":
		say(event{}, 1)
	case "kind 99":
		say(event{Kind: 99}, 1)
	case "done at once":
		say(event{Kind: eventDone}, 1)
	case "failed with code":
		say(event{Kind: eventFailed, Text: "no"}, 1)
	case "code after the start":
		compiled()
		say(event{Kind: eventCompiled, CacheName: "evil"}, 1)
	case "code at the end":
		compiled()
		say(event{Kind: eventDone, Status: 7}, 1)
	case "garbage after the start":
		compiled()
		_ = send(controlFD, []byte("garbage"), fds[:1])
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
