package p11

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestURI(t *testing.T) {
	for s, want := range map[string]URI{
		"pkcs11:token=steward;object=sealing": {Token: "steward", Object: "sealing"},
		"pkcs11:token=a:pin;object=pin-value": {Token: "a:pin", Object: "pin-value"},
		"pkcs11:type=secret-key;object=a%20%3b;token=The%20Token;serial=0f?module-path=/usr/lib/x%2fy.so": {Token: "The Token", Serial: "0f", Object: "a ;", Module: "/usr/lib/x/y.so"},
		"pkcs11:token=t;id=%00%ff": {Token: "t", ID: []byte{0, 0xff}},
	} {
		if u, err := ParseURI(s); err != nil || !reflect.DeepEqual(u, want) {
			t.Errorf("%s: found %+v, %v", s, u, err)
		}
	}
	for want, u := range map[string]URI{`"o" in "t"`: {Token: "t", Object: "o"}, `with the id 0a in "t"`: {Token: "t", ID: []byte{10}}, `"o" with the id 0a in "t"`: {Token: "t", Object: "o", ID: []byte{10}}} {
		if u.String() != want {
			t.Errorf("found %s, wanted %s", u, want)
		}
	}
	for _, s := range []string{"", "pkcs11:", "PKCS11:token=a;object=b", "pkcs11:token=a", "pkcs11:object=b", "pkcs11:token=a;object=b;", "pkcs11:token=a;token=a;object=b",
		"pkcs11:token=a;object=", "pkcs11:token=a b;object=c", "pkcs11:token=a;object=%4", "pkcs11:token=a;object=%4x", "pkcs11:token=a;object=%00", "pkcs11:token=%ff;object=b",
		"pkcs11:token=" + strings.Repeat("a", 33) + ";object=b", "pkcs11:token=a;object=b?module-path=rel.so", "pkcs11:token=a;object=b;module-path=/x",
		"pkcs11:token=a;object=b?", "pkcs11:token=a;object=b?token=a", "pkcs11:token=a;object=b?module-path=/x&module-path=/x", "pkcs11:token=a;object=b;type=private",
		"pkcs11:token=a;object=b?pin-value=1234", "pkcs11:token=a;object=b?pin-source=/x", "pkcs11:token=a;object=b?PIN-VALUE=1234", "pkcs11:token=a;object=b;pin%2dvalue=1234", "pkcs11:token=a;object=b?pin=1234",
		"PKCS11:pin-value=1234;token=a;object=b", "pkcs11:token=a b;pin-value=1234", "pin-value=1234", "pkcs11:token=a&pin-value=1234", "pkcs11:token=a;object=b;model=x", "pkcs11:token=a;object=b;x-vendor=1",
		"pkcs11:token=a;object=" + strings.Repeat("b", maxURI)} {
		if u, err := ParseURI(s); !errors.Is(err, ErrURI) {
			t.Errorf("%.60s: found %+v, %v", s, u, err)
		} else if strings.Contains(err.Error(), "1234") {
			t.Errorf("the PIN is in the error: %v", err)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("pkcs11:token=steward;object=sealing?module-path=/usr/lib/softhsm/libsofthsm2.so")
	f.Add("pkcs11:token=a%20b;id=%00%ff;serial=0")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURI(s)
		if err == nil && (u.Token == "" || u.Object == "" && u.ID == nil || len(u.Token) > 32 || strings.Contains(s, ";pin-") || strings.Contains(s, "?pin-")) {
			t.Fatalf("%q: %+v", s, u)
		}
	})
}
