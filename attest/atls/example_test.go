package atls_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/atls"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// keep serves HTTP from a simulated Keep, for the examples to connect to. The four
// lines with the Listener are a server of one's own.
func keep() (address string, p *policy.Policy) {
	prover, certificate, p := atls.SimulatedKeep()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l := &atls.Listener{Listener: inner, Server: &atls.Server{Prover: prover}, Config: certificate}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello from a Keep") }))
	return inner.Addr().String(), p
}

// A connection to a Keep that the policy admits.
func ExampleDialer() {
	address, p := keep()

	d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
	conn, err := d.DialContext(context.Background(), "tcp", address)
	fmt.Println(conn.(*atls.Conn).Verdict.Outcome, err)
	// Output: admitted <nil>
}

// An HTTP client each of whose connections is attested.
func ExampleDialer_http() {
	address, p := keep()

	d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
	client := http.Client{Transport: &http.Transport{DialTLSContext: d.DialContext}}
	resp, err := client.Get("https://" + address + "/")
	if err != nil {
		log.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s", body)
	// Output: hello from a Keep
}

// A refusal has every check, and says which failed.
func ExampleDialer_refused() {
	server, err := tls.Listen("tcp", "127.0.0.1:0", ordinary())
	if err != nil {
		log.Fatal(err)
	}
	go http.Serve(server, nil)
	_, p := keep()

	d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
	_, err = d.DialContext(context.Background(), "tcp", server.Addr().String())
	if refused, ok := errors.AsType[*verdict.Error](err); ok {
		fmt.Println(refused.Verdict.Outcome, refused.Verdict.Checks[0].Code)
	}
	// Output: not_genuine protocol
}

// A server with attested and ordinary clients on one port.
func ExampleServer_Offer() {
	prover, certificate, p := atls.SimulatedKeep()
	s := &atls.Server{Prover: prover}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for {
			raw, err := inner.Accept()
			if err != nil {
				return
			}
			conn := tls.Server(raw, s.Offer(certificate))
			if conn.Handshake() == nil && conn.ConnectionState().NegotiatedProtocol == atls.Protocol {
				_, _ = s.Attest(context.Background(), conn)
			}
			fmt.Fprintln(conn, "hello")
			conn.Close()
		}
	}()

	d := atls.Dialer{Config: atls.Config{Options: attest.Options{Policy: p}}}
	attested, _ := d.DialContext(context.Background(), "tcp", inner.Addr().String())
	plain, _ := tls.Dial("tcp", inner.Addr().String(), &tls.Config{InsecureSkipVerify: true})
	for _, c := range []net.Conn{attested, plain} {
		b, _ := io.ReadAll(c)
		fmt.Printf("%s", b)
	}
	// Output:
	// hello
	// hello
}

// ordinary is a server's certificate that is no Keep's.
func ordinary() *tls.Config {
	_, c, _ := atls.SimulatedKeep()
	return c
}
