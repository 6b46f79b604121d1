package snp

import (
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/donjon-tee/donjon/attest/collateral"
)

// GUID identifies an entry of a certificate table, in its text order.
type GUID [16]byte

// The entries' identifiers (GHCB specification, table "Certificate GUIDs").
var (
	GUIDVCEK = mustGUID("63da758de6644564adc5f4b93be8accd")
	GUIDVLEK = mustGUID("a8074bc2a25a483eaae639c045a0b8a1")
	GUIDASK  = mustGUID("4ab7b379bbac4fe4a02f05aef327c782")
	GUIDARK  = mustGUID("c0b406a4a803495297433fb6014cd0ae")
)

func mustGUID(s string) GUID {
	var g GUID
	if _, err := hex.Decode(g[:], []byte(s)); err != nil {
		panic(err) // a constant of this file
	}
	return g
}

// wire swaps the first three fields: a GUID's bytes are little endian there.
func (g GUID) wire() GUID {
	return GUID{g[3], g[2], g[1], g[0], g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]}
}

// CertEntry is one certificate (DER) of a table.
type CertEntry struct {
	GUID GUID
	Data []byte
}

const (
	tableEntry   = 24
	maxTable     = 64 << 10
	maxTableRows = 16
)

// ParseCertTable reads a GHCB certificate table: entries of GUID (16), offset
// (u32) and length (u32), little endian, ended by a zero entry, then the data.
func ParseCertTable(b []byte) ([]CertEntry, error) {
	if len(b) > maxTable {
		return nil, fmt.Errorf("snp: certificate table of %d bytes, at most %d", len(b), maxTable)
	}
	var out []CertEntry
	seen := map[GUID]bool{}
	for row := 0; ; row++ {
		if row > maxTableRows || (row+1)*tableEntry > len(b) {
			return nil, errors.New("snp: certificate table without an end")
		}
		e := b[row*tableEntry:]
		g := GUID(e[:16]).wire()
		off, n := binary.LittleEndian.Uint32(e[16:]), binary.LittleEndian.Uint32(e[20:])
		if g == (GUID{}) && off == 0 && n == 0 {
			return out, nil
		}
		if uint64(off)+uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("snp: certificate table: entry %d reaches to %d of %d bytes", row, uint64(off)+uint64(n), len(b))
		}
		if seen[g] {
			return nil, fmt.Errorf("snp: certificate table: entry %x stands twice", g)
		}
		seen[g] = true
		out = append(out, CertEntry{g, b[off : off+n]})
	}
}

// CertTableCollateral takes the certificates out of a GHCB table. Entries of other
// kinds than VCEK, VLEK, ASK (or ASVK) and ARK are named in Ignored; a certificate that
// does not parse is an error, and so is one with bytes behind it.
func CertTableCollateral(table []byte) (*collateral.Set, error) {
	rows, err := ParseCertTable(table)
	if err != nil {
		return nil, err
	}
	set := &collateral.Set{}
	for _, row := range rows {
		name, ok := row.GUID.Name()
		if !ok {
			set.Ignored = append(set.Ignored, collateral.Ignored{Name: name, Why: "no certificate of a known kind"})
			continue
		}
		if len(row.Data) == 0 {
			set.Ignored = append(set.Ignored, collateral.Ignored{Name: name, Why: "the entry is empty"})
			continue
		}
		c, err := x509.ParseCertificate(row.Data)
		if err != nil {
			return nil, fmt.Errorf("snp: certificate table: %s: %w", name, err)
		}
		set.Certificates = append(set.Certificates, c)
	}
	return set, nil
}

// Name is the entry's kind: VCEK, VLEK, ASK (an ASVK too) or ARK; for others the GUID itself.
func (g GUID) Name() (name string, known bool) {
	switch g {
	case GUIDVCEK:
		return "VCEK", true
	case GUIDVLEK:
		return "VLEK", true
	case GUIDASK:
		return "ASK", true
	case GUIDARK:
		return "ARK", true
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", g[:4], g[4:6], g[6:8], g[8:10], g[10:]), false
}

// EncodeCertTable is the reverse of ParseCertTable.
func EncodeCertTable(entries []CertEntry) []byte {
	head := make([]byte, (len(entries)+1)*tableEntry)
	var data []byte
	for i, e := range entries {
		h := head[i*tableEntry:]
		g := e.GUID.wire()
		copy(h, g[:])
		binary.LittleEndian.PutUint32(h[16:], uint32(len(head)+len(data)))
		binary.LittleEndian.PutUint32(h[20:], uint32(len(e.Data)))
		data = append(data, e.Data...)
	}
	return append(head, data...)
}
