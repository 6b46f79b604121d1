// Web is a plain net/http server on the listener at descriptor 3.
package main

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"os"
)

func main() {
	ln, err := net.FileListener(os.NewFile(3, "web"))
	if err != nil {
		log.Fatal(err)
	}
	var s http.Server
	done := make(chan struct{})
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/quit" {
			go func() {
				_ = s.Shutdown(context.Background())
				close(done)
			}()
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = w.Write(append([]byte("you said "), b...))
	})
	if err := s.Serve(ln); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-done
}
