package authority

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Names are the Steward's own names and addresses, which no workload gets (THREATS
// T4).
type Names struct {
	dns []string
	ips []netip.Addr
}

// OwnNames takes host names and addresses; localhost and the loopback addresses are
// always among them.
func OwnNames(list []string) (Names, error) {
	n := Names{dns: []string{"localhost"}, ips: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}}
	for _, s := range list {
		if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
			ip = ip.Unmap().WithZone("")
			if !ip.IsUnspecified() && !slices.Contains(n.ips, ip) {
				n.ips = append(n.ips, ip)
			}
			continue
		}
		name, err := DNSName(s)
		if err != nil {
			return Names{}, fmt.Errorf("the Steward's own name: %w", err)
		}
		if strings.HasPrefix(name, "*.") {
			return Names{}, fmt.Errorf("the Steward's own name: found %q, wanted no wildcard", s)
		}
		if !slices.Contains(n.dns, name) {
			n.dns = append(n.dns, name)
		}
	}
	return n, nil
}

// Addresses are the IP addresses among the names.
func (n Names) Addresses() []net.IP {
	var out []net.IP
	for _, a := range n.ips {
		out = append(out, a.AsSlice())
	}
	return out
}

// DNS are the host names among the names.
func (n Names) DNS() []string { return slices.Clone(n.dns) }

// An OwnNameError says that a policy grants what is the Steward's.
type OwnNameError struct{ Name, Own string }

func (e *OwnNameError) Error() string {
	return fmt.Sprintf("found the DNS name %q, which would stand for the Steward's own %q, wanted another", e.Name, e.Own)
}

// Hint is what to do about it.
func (e *OwnNameError) Hint() string {
	return "a workload with the Steward's name could pose as the Steward: give it a name of its own"
}

// Grant normalises the DNS names that a workload may have, and refuses what is no
// name, what is an address in any spelling, and what is the Steward's own.
func (n Names) Grant(list []string) ([]string, error) {
	out := make([]string, 0, len(list))
	for _, s := range list {
		name, err := DNSName(s)
		if err != nil {
			return nil, err
		}
		for _, own := range n.dns {
			if name == own || covers(name, own) {
				return nil, &OwnNameError{s, own}
			}
		}
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// covers says whether the wildcard w stands for name: its star is one label (RFC
// 6125, 6.4.3).
func covers(w, name string) bool {
	suffix, ok := strings.CutPrefix(w, "*.")
	if !ok {
		return false
	}
	_, rest, ok := strings.Cut(name, ".")
	return ok && rest == suffix
}

// DNSName is s in lower case and without a final dot. Names are of letters, digits
// and hyphens (international ones in their ASCII form); the first label may be *
// where two more follow. What a resolver could take for an address is refused: the
// last label is neither a number nor 0x and one (WHATWG URL, "ends in a number").
func DNSName(s string) (string, error) {
	bad := func(why string) (string, error) {
		return "", fmt.Errorf("found the DNS name %q, wanted a host name: %s", s, why)
	}
	name := strings.TrimSuffix(strings.ToLower(s), ".")
	if name == "" || len(name) > 253 {
		return bad("1 to 253 characters")
	}
	labels := strings.Split(name, ".")
	for i, l := range labels {
		if i == 0 && l == "*" {
			if len(labels) < 3 {
				return bad("a wildcard has two labels behind it at least")
			}
			continue
		}
		if err := label(l); err != nil {
			return bad(err.Error())
		}
	}
	last := labels[len(labels)-1]
	if strings.Trim(last, "0123456789") == "" || isHex(last) {
		return bad("an address is none")
	}
	return name, nil
}

func label(l string) error {
	if l == "" || len(l) > 63 {
		return errors.New("its labels have 1 to 63 characters")
	}
	for _, c := range []byte(l) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return errors.New("its labels are of letters, digits and hyphens")
		}
	}
	if l[0] == '-' || l[len(l)-1] == '-' {
		return errors.New("no label begins or ends with a hyphen")
	}
	return nil
}

func isHex(l string) bool {
	digits, ok := strings.CutPrefix(l, "0x")
	if !ok {
		return false
	}
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	_, err := hex.DecodeString(digits)
	return err == nil
}
