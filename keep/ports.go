package keep

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/donjon-tee/donjon/engine/vfs"
	"github.com/donjon-tee/donjon/link"
	"github.com/donjon-tee/donjon/workload"
)

func (s *supervisor) serveWorkload(st *link.Stream) {
	defer st.Close()
	w := s.Workload
	offer := link.Offer{
		Manifest: w.Manifest, TEE: s.TEE, Verbose: s.Verbose, Weak: s.Weak, NoCache: s.NoCache,
		MaxMemory: s.Ceilings.Memory, MaxCPU: uint64(s.Ceilings.CPU.Milliseconds()),
		Args: w.Host.Args, Env: w.Host.Env, Role: w.Host.Role, Terminals: s.Terminals,
		Signatures: s.Signatures,
	}
	if err := link.WriteRecord(st, offer); err != nil {
		return
	}
	for _, b := range w.Blobs() {
		if _, err := st.Write(b); err != nil {
			return
		}
	}
	_ = st.CloseWrite()
	_, _ = io.Copy(io.Discard, st)
}

// declared looks up what the configuration says about a descriptor. The host
// opens nothing else.
func (s *supervisor) declared(st *link.Stream, kind string) (workload.File, int, bool) {
	var q link.PortRequest
	if err := link.Unmarshal(st.Params(), &q); err != nil {
		st.Reset(link.CodeFailed, err.Error())
		return workload.File{}, 0, false
	}
	files := s.Workload.Config.Descriptors()
	if uint64(q.Index) >= uint64(len(files)) || string(files[q.Index].Kind) != kind {
		text := fmt.Sprintf("descriptor %d is no %s in the configuration", q.Index, kind)
		s.Log(0, "refused to the Keep: "+text)
		st.Reset(link.CodeRefused, text)
		return workload.File{}, 0, false
	}
	return files[q.Index], int(q.Index), true
}

func (s *supervisor) serveDial(st *link.Stream) {
	f, _, ok := s.declared(st, "connect")
	if !ok {
		return
	}
	if s.dials.Add(1) > int32(s.Ceilings.Dials) {
		st.Reset(link.CodeBusy, fmt.Sprintf("more than %d connections to peers", s.Ceilings.Dials))
		return
	}
	s.dial(st, f.Host, f.Port)
}

// dial answers a Keep's request for a connection and carries it.
func (s *supervisor) dial(st *link.Stream, host string, port uint16) {
	conn, err := s.Dialer.Dial(s.ctx, host, port)
	if err != nil {
		reply := link.PortReply{Error: err.Error()}
		if h, ok := err.(interface{ Hint() string }); ok {
			reply.Hint = h.Hint()
		}
		_ = link.WriteRecord(st, reply)
		_ = st.Close()
		return
	}
	if err := link.WriteRecord(st, link.PortReply{OK: true, Addr: conn.RemoteAddr().String()}); err != nil {
		_ = conn.Close()
		return
	}
	relay(st, conn, nil)
}

func (s *supervisor) serveListen(st *link.Stream) {
	f, index, ok := s.declared(st, "listen")
	if !ok {
		return
	}
	if !s.firstOnly(link.ServiceListen, uint32(index)) {
		st.Reset(link.CodeRefused, "it was opened before")
		return
	}
	addr := net.JoinHostPort(f.Addr, strconv.Itoa(int(f.Port)))
	if b, ok := s.Bind[f.Name]; ok {
		addr = b
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		_ = link.WriteRecord(st, link.PortReply{
			Error: fmt.Sprintf("listening for %q on %s: %v", f.Name, addr, reason(err)),
			Hint:  fmt.Sprintf("--bind %s=ADDRESS:PORT moves this listener", f.Name),
		})
		_ = st.Close()
		return
	}
	if !s.keepListener(l) {
		_ = l.Close()
		_ = st.Close()
		return
	}
	defer l.Close()
	if err := link.WriteRecord(st, link.PortReply{OK: true, Addr: l.Addr().String()}); err != nil {
		return
	}
	s.Log(1, fmt.Sprintf("%s listens on %s (%s)", f.Name, l.Addr(), f.Prot))
	go func() { // the guest closed its listener, or the session ended
		_, _ = io.Copy(io.Discard, st)
		_ = l.Close()
	}()
	for {
		conn, err := l.Accept()
		if err != nil && !errors.Is(err, net.ErrClosed) && s.sess.Err() == nil {
			// No more descriptors, or a client that left early: the next may work.
			s.Log(1, fmt.Sprintf("%s: %v", f.Name, reason(err)))
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err != nil {
			_ = st.CloseWrite() // the Keep learns that nobody comes any more
			return
		}
		s.conns <- struct{}{} // the rest waits in the kernel's backlog
		params := link.Marshal(link.Conn{Index: uint32(index), Peer: conn.RemoteAddr().String()})
		cst, err := s.sess.Open(link.ServiceConn, params)
		if err != nil {
			<-s.conns
			_ = conn.Close()
			continue
		}
		relay(cst, conn.(*net.TCPConn), func() { <-s.conns })
	}
}

// reason is the innermost cause of a network error: the rest repeats the address.
func reason(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok || u.Unwrap() == nil {
			return err
		}
		err = u.Unwrap()
	}
}

func (s *supervisor) serveDir(st *link.Stream) {
	defer st.Close()
	var q link.PortRequest
	if err := link.Unmarshal(st.Params(), &q); err != nil {
		st.Reset(link.CodeFailed, err.Error())
		return
	}
	if uint64(q.Index) >= uint64(len(s.HostDirs)) {
		st.Reset(link.CodeRefused, fmt.Sprintf("host folder %d was not given", q.Index))
		return
	}
	if !s.firstOnly(link.ServiceDir, q.Index) { // each holds descriptors of the host
		st.Reset(link.CodeRefused, "it was opened before")
		return
	}
	if err := vfs.Serve(s.ctx, s.HostDirs[q.Index], st); err != nil && s.sess.Err() == nil {
		s.Log(1, "host folder: "+err.Error())
	}
}

// relay joins a stream and a connection; done (may be nil) is called when it ends.
// A connection that ends in disorder is reset: its peer must not take that for the
// end of what was sent.
func relay(st *link.Stream, conn *net.TCPConn, done func()) {
	if done == nil {
		done = func() {}
	}
	fd, err := link.Take(conn)
	if err != nil {
		_ = conn.Close()
		st.Reset(link.CodeFailed, err.Error())
		done()
		return
	}
	st.Relay(fd, nil, func(fd int, orderly bool) {
		if !orderly {
			_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		done()
	})
}
