package snp

import (
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"fmt"

	"github.com/donjon-tee/donjon/attest/pki"
)

//go:embed roots/*.der
var rootFiles embed.FS

// Products that AMD has published roots for.
const (
	Milan = "Milan"
	Genoa = "Genoa" // Bergamo and Siena included
	Turin = "Turin"
)

// Product is what this package knows about one of AMD's product lines: its pinned
// root (ARK), and the intermediates that sign VCEKs (ASK) and VLEKs (ASVK).
type Product struct {
	Name           string
	ARK, ASK, ASVK *x509.Certificate
}

// pins are the SHA-256 of the pinned certificates' DER; roots/README.md says where
// they are from.
var pins = [...]struct{ product, ark, ask, asvk string }{
	{Milan, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
		"67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b", "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5"},
	{Genoa, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
		"5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521", "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372"},
	{Turin, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
		"5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185", "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c"},
}

// Products parses the pinned certificates. An error means that this program was
// built from files that are not AMD's.
func Products() ([]Product, error) {
	var out []Product
	for _, p := range pins {
		ark, err := pinned(p.product, "ark", p.ark)
		if err != nil {
			return nil, err
		}
		ask, err := pinned(p.product, "ask", p.ask)
		if err != nil {
			return nil, err
		}
		asvk, err := pinned(p.product, "asvk", p.asvk)
		if err != nil {
			return nil, err
		}
		out = append(out, Product{p.product, ark, ask, asvk})
	}
	return out, nil
}

func pinned(product, role, want string) (*x509.Certificate, error) {
	name := fmt.Sprintf("roots/%s-%s.der", lower(product), role)
	b, err := rootFiles.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("snp: %w", err)
	}
	h := sha256.Sum256(b)
	if got := hex.EncodeToString(h[:]); got != want {
		return nil, fmt.Errorf("snp: built-in %s: found SHA-256 %s, wanted %s", name, got, want)
	}
	c, err := x509.ParseCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("snp: built-in %s: %w", name, err)
	}
	return c, nil
}

// intermediate gives the product's pinned signer of endorsement keys.
func (p *Product) intermediate(vlek bool) *x509.Certificate {
	if vlek {
		return p.ASVK
	}
	return p.ASK
}

// anchor says whose pinned root has the fingerprint; nil: nobody's.
func anchor(products []Product, h pki.Hash) *Product {
	for i := range products {
		if pki.Fingerprint(products[i].ARK) == h {
			return &products[i]
		}
	}
	return nil
}
