package keep

import "github.com/donjon-tee/donjon/link"

// What a Keep can make its host do at once is bounded here, whatever the Keep
// says (THREATS T28). The goroutine that serves a stream may outlive the stream,
// and a Keep can open and reset streams without end: goroutines are counted, not
// streams.
//
// Buffered bytes need no count of their own: a stream holds at most its window
// (64 KiB; 1 MiB for the two outputs and for blobs), and the link admits 1,152 streams.
const (
	maxServing = link.MaxStreams
	// maxCostly bounds each service that costs the host processor time or disk:
	// a Keep of ours uses one stream of each at a time.
	maxCostly = 4
)

// An opening is a service and, where it has them, the index of its descriptor.
type opening struct {
	service link.Service
	index   uint32
}

// firstOnly lets a service, or one descriptor of it, be opened once in a Keep's
// life.
func (s *supervisor) firstOnly(v link.Service, index uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := opening{v, index}
	if s.opened[o] {
		return false
	}
	s.opened[o] = true
	return true
}

// admit counts a stream that is to be served; leave must follow.
func (s *supervisor) admit(v link.Service) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := 0
	for _, n := range s.serving {
		all += n
	}
	most := maxServing
	switch v {
	case link.ServiceReport, link.ServiceDeriveKey, link.ServiceBlobs, link.ServiceSteward:
		most = maxCostly
	}
	if all >= maxServing || s.serving[v] >= most {
		return false
	}
	s.serving[v]++
	return true
}

func (s *supervisor) leave(v link.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving[v]--; s.serving[v] <= 0 {
		delete(s.serving, v)
	}
}
