// Command evilkeep is a Keep that attacks its host over the link and the console.
// The first argument in the workload's configuration says how.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

// Codes clears the screen, sets the window's title, turns text around and forges a
// line of donjon's.
const codes = "\x1b[2J\x1b]0;owned\x07\u202eevil\u2066\u009b31m\r\ndonjon: evidence ok\n✔ genuine"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	sess, err := link.Guest(os.NewFile(3, "link"))
	if err != nil {
		return err
	}
	mode, err := fetchMode(sess)
	if err != nil {
		return err
	}
	exit := link.Exit{Kind: link.ExitStatus}
	switch mode {
	case "escapes":
		logs, err := sess.Open(link.ServiceLog, nil)
		if err != nil {
			return err
		}
		if err := link.WriteRecord(logs, link.LogLine{Text: "log " + codes}); err != nil {
			return err
		}
		out, err := sess.Open(link.ServiceStdout, nil)
		if err != nil {
			return err
		}
		_, _ = io.WriteString(out, codes)
		_ = out.CloseWrite()
		if st, err := sess.Open(link.ServiceDial, link.Marshal(link.PortRequest{Index: 1 << 31})); err == nil {
			_, _ = io.Copy(io.Discard, st)
		}
		exit = link.Exit{Kind: link.ExitTrap, Text: "trap " + codes, Hint: "hint " + codes}
	case "console": // much on the console, and an end without a last word
		b := bytes.Repeat([]byte(strings.ReplaceAll(codes, "\n", "")+"\n"), 1<<12)
		for n := 0; n < 64<<20; n += len(b) {
			if _, err := os.Stderr.Write(b); err != nil {
				return err
			}
		}
		os.Exit(3)
	case "log":
		logs, err := sess.Open(link.ServiceLog, nil)
		if err != nil {
			return err
		}
		for range 1 << 22 { // until the host has enough
			if link.WriteRecord(logs, link.LogLine{}) != nil {
				break
			}
		}
	case "streams": // opened and given up at once, of every service but the last word's
		for i := range 100_000 {
			service := link.Service(i % 20)
			if service == link.ServiceExit {
				service = link.ServiceReport
			}
			st, err := sess.Open(service, nil)
			if err != nil {
				return err
			}
			st.Reset(link.CodeCancelled, "")
		}
	case "listeners": // the same listener again and again
		n := 0
		for range 2000 {
			st, err := sess.Open(link.ServiceListen, link.Marshal(link.PortRequest{Index: 0}))
			if err != nil {
				return err
			}
			var r link.PortReply
			if link.ReadRecord(st, link.MaxRecord, &r) == nil && r.OK {
				n++
			} else {
				st.Reset(link.CodeCancelled, "")
			}
		}
		exit.Status = uint32(min(n, 255))
	}
	for { // the host may be busy with what went before
		st, err := sess.Open(link.ServiceExit, nil)
		if err != nil {
			return err
		}
		_ = link.WriteRecord(st, exit)
		var busy *link.ResetError
		if _, err := io.Copy(io.Discard, st); !errors.As(err, &busy) || busy.Code != link.CodeBusy {
			break
		}
	}
	<-sess.Done()
	return nil
}

func fetchMode(sess *link.Session) (string, error) {
	st, err := sess.Open(link.ServiceWorkload, nil)
	if err != nil {
		return "", err
	}
	defer st.Close()
	var offer link.Offer
	if err := link.ReadRecord(st, link.MaxOfferRecord, &offer); err != nil {
		return "", err
	}
	m, err := workload.ParseManifest(offer.Manifest)
	if err != nil {
		return "", err
	}
	b := make([]byte, m.Config.Size)
	if _, err := io.ReadFull(st, b); err != nil {
		return "", err
	}
	c, err := workload.ParseConfig(b)
	if err != nil {
		return "", err
	}
	if len(c.Args) == 0 {
		return "", fmt.Errorf("evilkeep: no mode")
	}
	return c.Args[0], nil
}
