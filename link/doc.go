// Package link is the one byte channel between the host and a Keep, and what
// travels on it: everything that crosses the border of a Keep crosses it here.
//
// The bottom is a bidirectional byte channel (a socket pair to a process, a
// virtio-serial port to a virtual machine). The guest speaks first (hello.go):
// firmware swallows early bytes, so the host says nothing before it has read the
// guest's magic and drops what comes before it. Then both sides exchange frames
// (frame.go) that belong to streams (stream.go) of a session (session.go). A
// stream is opened for a named service (service.go).
//
// Each side treats the other as hostile: every length is checked against a
// constant before a byte is allocated, a frame that breaks a rule ends the whole
// session, and a stream can hold no more than the window that its receiver
// granted. Back-pressure is per stream, so a slow reader slows only its own
// stream.
//
// Next door: keep holds the host's end, warden the guest's.
package link
