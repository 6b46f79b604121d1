package keep

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// T27: what an address is, in every dress in which it comes.
func TestT27ForbiddenAddresses(t *testing.T) {
	for _, c := range []struct {
		why   string // "": may be dialled
		addrs string
	}{
		{"link-local", "169.254.169.254 169.254.0.1 fe80::1 fe80::1%lo febf::1"},
		{"metadata", "fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.0.192 168.63.129.16 fd00:ec2::254%eth0"},
		{"unspecified", "0.0.0.0 0.1.2.3 ::"},
		{"multicast", "224.0.0.1 239.255.255.250 255.255.255.255 ff02::1 ff02::1%lo ff0e::1"},
		// IPv4 in IPv6: mapped, compatible, NAT64, a site's NAT64, SIIT, 6to4, Teredo, ISATAP.
		{"link-local", "::ffff:169.254.169.254 ::169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe ::ffff:0:a9fe:a9fe 2002:a9fe:a9fe::1 2001::5601:5601 2001:db8::5efe:a9fe:a9fe 2001:db8::200:5efe:169.254.169.254"},
		{"metadata", "::ffff:100.100.100.200 64:ff9b::6464:64c8 2002:6464:64c8:: 2002:a83f:8110::1 ::168.63.129.16"},
		{"multicast", "::ffff:224.0.0.1 64:ff9b::e000:1"},
		{"unspecified", "::ffff:0.0.0.0 64:ff9b:: 2002::"},
		{"", "127.0.0.1 ::1 10.0.0.1 192.168.1.1 8.8.8.8 2606:4700::1111 fd00::1 64:ff9b::808:808 2002:808:808::1 ::ffff:8.8.8.8 100.100.100.201 169.253.255.255 169.255.0.0"},
	} {
		for s := range strings.FieldsSeq(c.addrs) {
			a := netip.MustParseAddr(s)
			got := forbidden(a)
			if c.why == "" && got != "" || c.why != "" && !strings.Contains(got, c.why) {
				t.Errorf("%s: found %q, wanted %q", s, got, c.why)
			}
		}
	}
}

// A name service that gives each of its answers once, and counts.
type answers struct {
	lists [][]string
	asked int
}

func (a *answers) lookup(context.Context, string) ([]netip.Addr, error) {
	if a.asked >= len(a.lists) {
		return nil, errors.New("asked too often")
	}
	var out []netip.Addr
	for _, s := range a.lists[a.asked] {
		out = append(out, netip.MustParseAddr(s))
	}
	a.asked++
	return out, nil
}

func listening(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// T27: the name is looked up once, and the very address that was checked is
// dialled: an answer that changes between the two changes nothing.
func TestT27Rebinding(t *testing.T) {
	port := listening(t)
	names := &answers{lists: [][]string{{"127.0.0.1"}, {"169.254.169.254"}}}
	d := Dialer{Lookup: names.lookup}
	c, err := d.Dial(t.Context(), "rebind.example", port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if names.asked != 1 || !c.RemoteAddr().(*net.TCPAddr).IP.IsLoopback() {
		t.Errorf("looked up %d times, connected to %s", names.asked, c.RemoteAddr())
	}
	var de *DialError
	if _, err := d.Dial(t.Context(), "rebind.example", port); !errors.As(err, &de) || !strings.Contains(de.Error(), "169.254.169.254 is link-local") || !strings.Contains(de.Hint(), "--allow-connect") {
		t.Errorf("the second answer: found %v", err)
	}
}

// T27: one bad address among good ones refuses them all, before any is dialled.
func TestT27OneOfMany(t *testing.T) {
	port := listening(t)
	for _, list := range [][]string{
		{"127.0.0.1", "169.254.169.254"}, {"169.254.169.254", "127.0.0.1"}, {"127.0.0.1", "::ffff:169.254.169.254"}, {"127.0.0.1", "64:ff9b::a9fe:a9fe"}, {"127.0.0.1", "fe80::1%lo"},
	} {
		d := Dialer{Lookup: (&answers{lists: [][]string{list}}).lookup}
		if c, err := d.Dial(t.Context(), "many.example", port); err == nil {
			t.Errorf("%v: connected to %s", list, c.RemoteAddr())
			_ = c.Close()
		}
	}
	for _, host := range []string{"169.254.169.254", "::ffff:169.254.169.254", "0.0.0.0", "::", "fe80::1%lo", "224.0.0.1", "2002:a9fe:a9fe::"} {
		if c, err := (Dialer{}).Dial(t.Context(), host, port); err == nil || !strings.Contains(err.Error(), " is ") {
			t.Errorf("%s: found %v, %v", host, c, err)
		}
	}
}

// T27: --allow-connect opens what it names and nothing beside it.
func TestT27Allow(t *testing.T) {
	for _, c := range []struct {
		allow, addr string
		ok          bool
	}{
		{"169.254.169.254/32", "169.254.169.254", true},
		{"169.254.169.254/32", "169.254.169.253", false},
		{"169.254.0.0/16", "169.254.1.2", true},
		{"::ffff:169.254.0.0/112", "169.254.1.2", true},
		{"::ffff:169.254.169.254/128", "169.254.169.253", false},
		{"fe80::/10", "fe80::1%lo", true},
		{"fe80::/10", "169.254.169.254", false},
		{"169.254.0.0/16", "64:ff9b::a9fe:a9fe", false}, // another way there: named by itself
		{"64:ff9b::a9fe:a9fe/128", "64:ff9b::a9fe:a9fe", true},
	} {
		d := Dialer{Allow: []netip.Prefix{netip.MustParsePrefix(c.allow)}}
		if got := d.allowed(netip.MustParseAddr(c.addr)); got != c.ok {
			t.Errorf("%s allows %s: found %v, wanted %v", c.allow, c.addr, got, c.ok)
		}
	}
	port := listening(t)
	d := Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}}
	c, err := d.Dial(t.Context(), "0.0.0.0", port) // on Linux this host
	if err != nil {
		t.Fatalf("an allowed address is not dialled: %v", err)
	}
	_ = c.Close()
}

func TestDialErrors(t *testing.T) {
	failing := func(err error, addrs ...netip.Addr) func(context.Context, string) ([]netip.Addr, error) {
		return func(context.Context, string) ([]netip.Addr, error) { return addrs, err }
	}
	for name, d := range map[string]Dialer{
		"not found": {Lookup: failing(&net.DNSError{IsNotFound: true})}, "no answer": {Lookup: failing(errors.New("timeout"))}, "empty": {Lookup: failing(nil)},
	} {
		if _, err := d.Dial(t.Context(), "h.example", 1); err == nil || !strings.Contains(err.Error(), "unknown host") {
			t.Errorf("%s: found %v", name, err)
		}
	}
	many := make([]netip.Addr, 1000)
	for i := range many {
		many[i] = netip.MustParseAddr("8.8.8.8")
	}
	many[999] = netip.MustParseAddr("169.254.169.254")
	found, err := Dialer{Lookup: failing(nil, many...)}.resolve(t.Context(), "h.example")
	if err != nil || len(found) != 16 {
		t.Errorf("found %d addresses, %v; what is not checked must not be dialled", len(found), err)
	}
}
