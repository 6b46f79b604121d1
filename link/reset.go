//go:build linux

package link

import (
	"fmt"
)

// Code says why a stream was reset.
type Code uint8

// The reset codes.
const (
	CodeCancelled   Code = 1 // the sender wants no more of it
	CodeBusy        Code = 2 // a bound is reached; later may work
	CodeRefused     Code = 3 // not declared by the configuration, or not allowed
	CodeUnknown     Code = 4 // no such service here
	CodeUnreachable Code = 5 // the peer could not be reached
	CodeFailed      Code = 6 // it was tried and went wrong
)

// A ResetError is what reads and writes give once the other side has reset the
// stream. Text is the other side's: escape it before it is shown.
type ResetError struct {
	Code Code
	Text string
}

func (e *ResetError) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("link: stream reset with code %d", e.Code)
	}
	return e.Text
}

func resetPayload(code Code, text string) []byte {
	if len(text) > MaxReason {
		text = text[:MaxReason]
	}
	return append([]byte{byte(code)}, text...)
}
