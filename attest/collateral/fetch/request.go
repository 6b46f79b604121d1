package fetch

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/snp"
)

// The vendors' servers. AMD: publication 57230, "VCEK Certificate and KDS Interface
// Specification", revision 1.00, chapter 4. Intel: "API for Trusted Services",
// Provisioning Certification Service version 4.
const (
	KDS         = "https://kdsintf.amd.com"
	PCS         = "https://api.trustedservices.intel.com"
	IntelRootCA = "https://certificates.trustedservices.intel.com"
)

// server says whose a request is, and with it which base address is put before.
type server int

const (
	kds server = iota
	pcs
	intelCA
)

// Update is Intel's choice between TCB infos: early ones know a TCB recovery from
// the day it is published, standard ones when platforms should have it.
type Update string

// The two; "" is Standard.
const (
	Standard Update = "standard"
	Early    Update = "early"
)

// Request is one thing to ask a vendor for. Its address is made here, from checked
// parts alone: none is ever taken from evidence or from a certificate.
type Request struct {
	What string // for people
	// URL is the vendor's own, also where a mirror is asked; the cache is keyed by it.
	URL string

	of   server
	path string // below the base address
	pccs string // where a PCCS has another path than Intel; "": the same
	// headers may hold the chain of the issuer, percent-encoded PEM.
	headers []string
	// paced requests are spaced out: the KDS answers about one VCEK in ten seconds.
	paced bool
	needs *Request // holds the issuer's chain, where the answer has none
	// pick takes what was asked for out of an answer, or says what is there instead.
	pick func(*collateral.Set) (*collateral.Set, error)
}

// Key names the request in a cache: the SHA-256 of its URL in hexadecimal.
func (r Request) Key() string {
	h := sha256.Sum256([]byte(r.URL))
	return hex.EncodeToString(h[:])
}

// Take takes what r asks for out of s, or says what is there instead. Nothing is
// verified.
func (r Request) Take(s *collateral.Set) (*collateral.Set, error) { return r.pick(s) }

func amdProduct(p string) error {
	switch p {
	case "Milan", "Genoa", "Turin":
		return nil
	}
	return fmt.Errorf("fetch: found product %.40q, wanted Milan, Genoa or Turin", p)
}

// VCEK asks for the certificate of a chip's key at a TCB. chipID is the report's, 64
// bytes; Turin's uses the first 8. Source: 57230, 4.1 "Get VCEK".
func VCEK(product string, chipID []byte, tcb claims.SNPTCB) (Request, error) {
	if err := amdProduct(product); err != nil {
		return Request{}, err
	}
	if len(chipID) != 64 {
		return Request{}, fmt.Errorf("fetch: a chip id of %d bytes, wanted 64", len(chipID))
	}
	if bytes.Count(chipID, []byte{0}) == len(chipID) {
		return Request{}, fmt.Errorf("fetch: the report hides its chip id, and without it there is no VCEK to ask for: take it from the host")
	}
	hwid, fmc := chipID, ""
	if product == "Turin" {
		if tcb.FMC == nil {
			return Request{}, fmt.Errorf("fetch: a TCB of %s without its FMC", product)
		}
		hwid, fmc = chipID[:8], fmt.Sprintf("fmcSPL=%02d&", *tcb.FMC)
	} else if tcb.FMC != nil {
		return Request{}, fmt.Errorf("fetch: a TCB of %s with an FMC", product)
	}
	chain, err := AMDChain(product, false)
	if err != nil {
		return Request{}, err
	}
	path := fmt.Sprintf("/vcek/v1/%s/%x?%sblSPL=%02d&teeSPL=%02d&snpSPL=%02d&ucodeSPL=%02d",
		product, hwid, fmc, tcb.BootLoader, tcb.TEE, tcb.SNP, tcb.Microcode)
	return Request{
		What: fmt.Sprintf("VCEK of a %s, chip %x…", product, hwid[:8]),
		URL:  KDS + path, path: path, of: kds, paced: true, needs: &chain,
		pick: func(s *collateral.Set) (*collateral.Set, error) {
			if len(s.Certificates) != 1 {
				return nil, fmt.Errorf("found %d certificates, wanted one VCEK", len(s.Certificates))
			}
			e, err := snp.ParseEndorsement(s.Certificates[0])
			if err != nil {
				return nil, err
			}
			got := claims.SNPTCB{BootLoader: e.BootLoader, TEE: e.TEE, SNP: e.SNP, Microcode: e.Microcode}
			switch {
			case !bytes.Equal(e.HWID, hwid):
				return nil, fmt.Errorf("found the VCEK of chip %x, wanted %x", e.HWID, hwid)
			case got != (claims.SNPTCB{BootLoader: tcb.BootLoader, TEE: tcb.TEE, SNP: tcb.SNP, Microcode: tcb.Microcode}),
				e.HasFMC != (tcb.FMC != nil), e.HasFMC && e.FMC != *tcb.FMC:
				return nil, fmt.Errorf("found a VCEK for another TCB, %016x", uint64(e.TCB()))
			}
			return &collateral.Set{Certificates: s.Certificates}, nil
		},
	}, nil
}

// AMDChain asks for a product's ASK and ARK, or with vlek for its ASVK and ARK.
// Source: 57230, 4.2 "Get VCEK certificate chain", 4.4 for VLEK.
func AMDChain(product string, vlek bool) (Request, error) {
	if err := amdProduct(product); err != nil {
		return Request{}, err
	}
	kind, name := "vcek", "SEV-"+product
	if vlek {
		kind, name = "vlek", "SEV-VLEK-"+product
	}
	path := "/" + kind + "/v1/" + product + "/cert_chain"
	return Request{
		What: fmt.Sprintf("chain of %s keys of %s", strings.ToUpper(kind), product),
		URL:  KDS + path, path: path, of: kds,
		pick: func(s *collateral.Set) (*collateral.Set, error) {
			out := &collateral.Set{}
			for _, want := range []string{name, "ARK-" + product} {
				var found []*x509.Certificate
				for _, c := range s.Certificates {
					if c.Subject.CommonName == want {
						found = append(found, c)
					}
				}
				if len(found) != 1 {
					return nil, fmt.Errorf("found %d certificates of %s, wanted one", len(found), want)
				}
				out.Certificates = append(out.Certificates, found[0])
			}
			return out, nil
		},
	}, nil
}

// AMDList asks for the list of a product's ARK. It serves VCEK and VLEK alike.
// Source: 57230, 4.3 "Get CRL".
func AMDList(product string) (Request, error) {
	if err := amdProduct(product); err != nil {
		return Request{}, err
	}
	path := "/vcek/v1/" + product + "/crl"
	return Request{What: "revocation list of " + product, URL: KDS + path, path: path, of: kds, pick: pickList("ARK-" + product)}, nil
}

func pickList(issuer string) func(*collateral.Set) (*collateral.Set, error) {
	return func(s *collateral.Set) (*collateral.Set, error) {
		if len(s.Lists) != 1 {
			return nil, fmt.Errorf("found %d revocation lists, wanted one", len(s.Lists))
		}
		if cn := s.Lists[0].Issuer.CommonName; cn != issuer {
			return nil, fmt.Errorf("found a list of %.80q, wanted one of %s", cn, issuer)
		}
		return &collateral.Set{Lists: s.Lists, Certificates: s.Certificates}, nil
	}
}

// TCBInfo asks for a platform's TCB info. tee is claims.SGX or claims.TDX; fmspc has
// 6 bytes. Source: PCS version 4, "Get TCB Info".
func TCBInfo(tee string, fmspc []byte, u Update) (Request, error) {
	if err := intelTEE(tee, u); err != nil {
		return Request{}, err
	}
	if len(fmspc) != 6 {
		return Request{}, fmt.Errorf("fetch: an FMSPC of %d bytes, wanted 6", len(fmspc))
	}
	path := fmt.Sprintf("/%s/certification/v4/tcb?fmspc=%x&update=%s", tee, fmspc, u.or())
	want := hex.EncodeToString(fmspc)
	return Request{
		What: fmt.Sprintf("%s TCB info of FMSPC %x", strings.ToUpper(tee), fmspc),
		URL:  PCS + path, path: path, of: pcs, headers: []string{"TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"},
		pick: func(s *collateral.Set) (*collateral.Set, error) {
			return pickDocument(s, s.TCBInfos, s.QEIdentities, strings.ToUpper(tee), want)
		},
	}, nil
}

// QEIdentity asks for the identity of the quoting enclave. Source: PCS version 4,
// "Get Quoting Enclave Identity".
func QEIdentity(tee string, u Update) (Request, error) {
	if err := intelTEE(tee, u); err != nil {
		return Request{}, err
	}
	path := fmt.Sprintf("/%s/certification/v4/qe/identity?update=%s", tee, u.or())
	id := "QE"
	if tee == claims.TDX {
		id = "TD_QE"
	}
	return Request{
		What: "identity of the quoting enclave for " + strings.ToUpper(tee),
		URL:  PCS + path, path: path, of: pcs, headers: []string{"SGX-Enclave-Identity-Issuer-Chain"},
		pick: func(s *collateral.Set) (*collateral.Set, error) {
			return pickDocument(s, s.QEIdentities, s.TCBInfos, id, "")
		},
	}, nil
}

func (u Update) or() Update {
	if u == "" {
		return Standard
	}
	return u
}

func intelTEE(tee string, u Update) error {
	if tee != claims.SGX && tee != claims.TDX {
		return fmt.Errorf("fetch: found TEE %.20q, wanted sgx or tdx", tee)
	}
	if u.or() != Standard && u != Early {
		return fmt.Errorf("fetch: found update %.20q, wanted standard or early", u)
	}
	return nil
}

func pickDocument(s *collateral.Set, docs, others []collateral.Document, id, fmspc string) (*collateral.Set, error) {
	if len(docs) != 1 || len(others) != 0 {
		return nil, fmt.Errorf("found %d TCB infos and %d QE identities, wanted one of id %s alone", len(s.TCBInfos), len(s.QEIdentities), id)
	}
	h, err := docs[0].Head()
	if err != nil {
		return nil, err
	}
	if h.ID != id || h.FMSPC != fmspc {
		return nil, fmt.Errorf("found one of id %.20q and FMSPC %q, wanted id %s and FMSPC %q", h.ID, h.FMSPC, id, fmspc)
	}
	return &collateral.Set{TCBInfos: s.TCBInfos, QEIdentities: s.QEIdentities, Certificates: s.Certificates}, nil
}

// PCKList asks for the list of an authority that issues PCK certificates: "platform"
// or "processor". Source: PCS version 4, "Get Revocation List".
func PCKList(ca string) (Request, error) {
	name := map[string]string{"platform": "Intel SGX PCK Platform CA", "processor": "Intel SGX PCK Processor CA"}[ca]
	if name == "" {
		return Request{}, fmt.Errorf("fetch: found authority %.20q, wanted platform or processor", ca)
	}
	path := "/sgx/certification/v4/pckcrl?ca=" + ca + "&encoding=der"
	return Request{
		What: "revocation list of the PCK " + ca + " authority",
		URL:  PCS + path, path: path, of: pcs, headers: []string{"SGX-PCK-CRL-Issuer-Chain"}, pick: pickList(name),
	}, nil
}

// IntelRootList asks for the list of Intel's root. Source: the address is the
// distribution point of Intel's root certificate; a PCCS answers it as rootcacrl.
func IntelRootList() Request {
	return Request{
		What: "revocation list of Intel's root",
		URL:  IntelRootCA + "/IntelSGXRootCA.der", path: "/IntelSGXRootCA.der", of: intelCA, pccs: "/sgx/certification/v4/rootcacrl",
		pick: pickList("Intel SGX Root CA"),
	}
}
