// Package snp is a SIMULATED secure processor: it makes reports in SEV-SNP's form
// for sim and vm Keeps and signs them under a root that is made on this machine
// at first use. It encodes what attest/snp decodes. Nobody outside this machine
// has reason to believe it, and every name it puts into a certificate says so.
package snp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"syscall"
	"time"

	attest "github.com/donjon-tee/donjon/attest/snp"
)

const (
	stateFile = "silicon.pem"
	// The simulated platform's TCB: boot loader 10, TEE 0, SNP 25, microcode 220.
	simulatedTCB = attest.TCB(10 | 25<<48 | 220<<56)
	// DefaultPolicy allows SMT; bit 17 is always 1; debugging is off.
	DefaultPolicy = 0x30000
)

// Silicon is one simulated processor.
type Silicon struct {
	ark, ask, vcek []byte // DER
	key            *ecdsa.PrivateKey
	secret         []byte // the chip's, for derived keys
	chip           [64]byte
}

// Open reads the processor kept in dir, or makes one at first use. Two processes
// may do so at once.
func Open(dir string) (*Silicon, error) {
	path := filepath.Join(dir, stateFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = create(dir, path)
	}
	if err != nil {
		return nil, fmt.Errorf("simulated silicon: %w", err)
	}
	s, err := parse(b)
	if err != nil {
		return nil, &StateError{Path: path, Err: err}
	}
	return s, nil
}

// A StateError says that the kept processor cannot be used.
type StateError struct {
	Path string
	Err  error
}

func (e *StateError) Error() string {
	return fmt.Sprintf("simulated silicon: %s is damaged: %v", e.Path, e.Err)
}
func (e *StateError) Unwrap() error { return e.Err }

// Hint is what to do about it.
func (e *StateError) Hint() string {
	return "remove that file: a new simulated root is made, and policies that name the old one must name the new"
}

func create(dir, path string) ([]byte, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return nil, err
	}
	if b, err := os.ReadFile(path); err == nil {
		return b, nil // another process was first
	}
	b, err := manufacture(time.Now())
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, err
	}
	_, err = f.Write(b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return nil, err
	}
	return b, nil
}

// manufacture makes root, intermediate, endorsement key and chip secret. RSA-2048
// where AMD has RSA-4096: a first run should not wait seconds for a simulation.
func manufacture(now time.Time) ([]byte, error) {
	chip := make([]byte, 64)
	secret := make([]byte, 32)
	rand.Read(chip)
	rand.Read(secret)
	label := "SIMULATED (not hardware) " + hex.EncodeToString(chip[:4])
	name := func(role string) pkix.Name {
		return pkix.Name{Organization: []string{"Donjon simulated silicon"}, CommonName: label + " " + role}
	}
	arkKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	askKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	vcekKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := func(serial int64, role string, ca bool) *x509.Certificate {
		t := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name(role),
			NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(25, 0, 0),
			SignatureAlgorithm: x509.SHA384WithRSAPSS, BasicConstraintsValid: ca, IsCA: ca}
		if ca {
			t.KeyUsage = x509.KeyUsageCertSign
		}
		return t
	}
	root, mid := template(1, "ARK", true), template(2, "ASK", true)
	ark, err := x509.CreateCertificate(rand.Reader, root, root, &arkKey.PublicKey, arkKey)
	if err != nil {
		return nil, err
	}
	ask, err := x509.CreateCertificate(rand.Reader, mid, root, &askKey.PublicKey, arkKey)
	if err != nil {
		return nil, err
	}
	leaf := template(3, "VCEK", false)
	if leaf.ExtraExtensions, err = kdsExtensions(chip); err != nil {
		return nil, err
	}
	vcek, err := x509.CreateCertificate(rand.Reader, leaf, mid, &vcekKey.PublicKey, askKey)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(vcekKey)
	if err != nil {
		return nil, err
	}
	// The CA keys are forgotten: this root signs nothing else, ever.
	var out []byte
	for _, b := range []struct {
		kind string
		data []byte
	}{{"CERTIFICATE", ark}, {"CERTIFICATE", ask}, {"CERTIFICATE", vcek}, {"PRIVATE KEY", key}, {"CHIP ID", chip}, {"CHIP SECRET", secret}} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: b.kind, Bytes: b.data})...)
	}
	return out, nil
}

// kdsExtensions are AMD's VCEK extensions (AMD 57230, "VCEK certificate
// extensions") that agree with this processor's reports.
func kdsExtensions(chip []byte) ([]pkix.Extension, error) {
	base := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	var out []pkix.Extension
	add := func(v any, params string, arcs ...int) error {
		b, err := asn1.MarshalWithParams(v, params)
		if err == nil {
			id := append(append(asn1.ObjectIdentifier{}, base...), arcs...)
			out = append(out, pkix.Extension{Id: id, Value: b})
		}
		return err
	}
	spl := func(shift uint) int { return int(byte(simulatedTCB >> shift)) }
	err := errors.Join(
		add(0, "", 1), add("Simulated", "ia5", 2),
		add(spl(0), "", 3, 1), add(spl(8), "", 3, 2),
		add(0, "", 3, 4), add(0, "", 3, 5), add(0, "", 3, 6), add(0, "", 3, 7),
		add(spl(48), "", 3, 3), add(spl(56), "", 3, 8))
	out = append(out, pkix.Extension{Id: append(append(asn1.ObjectIdentifier{}, base...), 4), Value: chip})
	return out, err
}

func parse(b []byte) (*Silicon, error) {
	var blocks [][]byte
	want := []string{"CERTIFICATE", "CERTIFICATE", "CERTIFICATE", "PRIVATE KEY", "CHIP ID", "CHIP SECRET"}
	for _, kind := range want {
		var p *pem.Block
		if p, b = pem.Decode(b); p == nil || p.Type != kind {
			return nil, fmt.Errorf("a %s is missing", kind)
		}
		blocks = append(blocks, p.Bytes)
	}
	k, err := x509.ParsePKCS8PrivateKey(blocks[3])
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P384() || len(blocks[4]) != 64 || len(blocks[5]) != 32 {
		return nil, errors.New("a key has the wrong form")
	}
	return &Silicon{ark: blocks[0], ask: blocks[1], vcek: blocks[2], key: key, secret: blocks[5], chip: [64]byte(blocks[4])}, nil
}

// Root is the simulated root certificate, DER.
func (s *Silicon) Root() []byte { return s.ark }

// RootFingerprint is the SHA-256 of the root certificate, in hexadecimal.
func (s *Silicon) RootFingerprint() string {
	h := sha256.Sum256(s.ark)
	return hex.EncodeToString(h[:])
}

// Launch is what a guest was launched with.
type Launch struct {
	HostData [32]byte
	Policy   uint64 // 0: DefaultPolicy
	Version  uint32 // of the reports, 3 or 5; 0: 5
}

// Guest is one launched guest. Measure is called once, when a report is first
// asked for.
type Guest struct {
	s       *Silicon
	l       Launch
	id      [32]byte
	measure func() [48]byte
}

// Guest launches a guest.
func (s *Silicon) Guest(l Launch, measure func() [48]byte) *Guest {
	if l.Policy == 0 {
		l.Policy = DefaultPolicy
	}
	if l.Version == 0 {
		l.Version = 5
	}
	g := &Guest{s: s, l: l, measure: measure}
	rand.Read(g.id[:])
	return g
}

// Certs is the GHCB table of VCEK, ASK and ARK.
func (g *Guest) Certs() []byte {
	return attest.EncodeCertTable([]attest.CertEntry{{GUID: attest.GUIDVCEK, Data: g.s.vcek}, {GUID: attest.GUIDASK, Data: g.s.ask}, {GUID: attest.GUIDARK, Data: g.s.ark}})
}

// Report makes a signed report over 64 bytes of the guest's choice.
func (g *Guest) Report(data [64]byte) ([]byte, error) {
	b := make([]byte, attest.ReportSize)
	le := binary.LittleEndian
	measurement := g.measure()
	le.PutUint32(b, g.l.Version)
	le.PutUint64(b[0x08:], g.l.Policy)
	le.PutUint32(b[0x34:], 1)
	for _, off := range []int{0x38, 0x180, 0x1e0, 0x1f0} { // current, reported, committed, launch TCB
		le.PutUint64(b[off:], uint64(simulatedTCB))
	}
	le.PutUint64(b[0x40:], 1) // PLATFORM_INFO: SMT on
	copy(b[0x50:], data[:])
	copy(b[0x90:], measurement[:])
	copy(b[0xc0:], g.l.HostData[:])
	copy(b[0x140:], g.id[:])
	for i := range 32 {
		b[0x160+i] = 0xff // no migration agent
	}
	b[0x188], b[0x189], b[0x18a] = 0x19, 0x11, 1 // family, model, stepping
	copy(b[0x1a0:], g.s.chip[:])
	for _, off := range []int{0x1e8, 0x1ec} { // current, committed: build 1, version 1.58
		b[off], b[off+1], b[off+2] = 1, 58, 1
	}
	h := sha512.Sum384(b[:attest.SignedSize])
	sig, err := g.s.key.Sign(rand.Reader, h[:], crypto.SHA384)
	if err != nil {
		return nil, fmt.Errorf("simulated silicon: %w", err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		return nil, fmt.Errorf("simulated silicon: %w", err)
	}
	putLittleEndian(b[attest.SignedSize:attest.SignedSize+72], rs.R)
	putLittleEndian(b[attest.SignedSize+72:attest.SignedSize+144], rs.S)
	return b, nil
}

func putLittleEndian(dst []byte, n *big.Int) {
	b := n.Bytes()
	for i := range b {
		dst[i] = b[len(b)-1-i]
	}
}

// DeriveKey answers a MSG_KEY_REQ of 32 bytes: root_key_select u32 (0: VCEK),
// reserved u32, guest_field_select u64 (bits 0 policy, 1 image id, 2 family id, 3
// measurement, 4 guest SVN, 5 TCB version), vmpl u32, guest_svn u32, tcb_version
// u64, little endian.
func (g *Guest) DeriveKey(req []byte) ([]byte, error) {
	le := binary.LittleEndian
	if len(req) != 32 {
		return nil, fmt.Errorf("simulated silicon: a key request of %d bytes, wanted 32", len(req))
	}
	fields := le.Uint64(req[8:])
	if le.Uint32(req) != 0 || le.Uint32(req[4:]) != 0 || fields >= 1<<6 || le.Uint32(req[16:]) != 0 ||
		le.Uint32(req[20:]) != 0 || le.Uint64(req[24:]) > uint64(simulatedTCB) {
		return nil, errors.New("simulated silicon: a key request that this processor refuses")
	}
	measurement := g.measure()
	info := []byte("donjon simulated snp key v1")
	info = append(info, req...)
	mix := func(bit uint64, b []byte) {
		if fields&bit != 0 {
			info = le.AppendUint32(info, uint32(len(b)))
			info = append(info, b...)
		}
	}
	mix(1<<0, le.AppendUint64(nil, g.l.Policy))
	mix(1<<3, measurement[:])
	return hkdf.Key(sha256.New, g.s.secret, nil, string(info), 32)
}
