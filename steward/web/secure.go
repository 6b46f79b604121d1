package web

import (
	"net"
	"net/http"
	"net/netip"
)

// contentPolicy allows the page's own style sheet, its icon and its forms. There is
// no script at all. Browsers refuse anything else, so that even markup which slipped
// through every escape could load and run nothing.
const contentPolicy = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'none'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'"

// secured sets the headers that every answer has, errors included, and refuses
// requests that another site's page makes.
func secured(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// Not no-referrer: browsers would then send forms with the origin null.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
		h.Set("Cache-Control", "no-store")
		if err := origin.Check(r); err != nil {
			http.Error(w, "this request comes from another site's page", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// clientAddress is the connection's address; of IPv6 the network, since whoever has
// one address there has 2^64.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return "unknown"
	}
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}
