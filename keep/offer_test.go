package keep

import (
	"bytes"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/link"
)

// What stands beside the workload is offered with it.
func TestSignaturesAreOffered(t *testing.T) {
	g := supervised(t, "", func(o *Options) { o.Signatures = [][]byte{[]byte("one"), []byte("two")} })
	st, err := g.sess.Open(link.ServiceWorkload, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = st.SetDeadline(time.Now().Add(30 * time.Second))
	var o link.Offer
	if err := link.ReadRecord(st, link.MaxOfferRecord, &o); err != nil {
		t.Fatal(err)
	}
	if len(o.Signatures) != 2 || !bytes.Equal(o.Signatures[0], []byte("one")) || !bytes.Equal(o.Signatures[1], []byte("two")) {
		t.Errorf("found %q", o.Signatures)
	}
}
