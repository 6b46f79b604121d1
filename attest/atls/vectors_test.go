package atls

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/evidence"
)

var update = flag.Bool("update", false, "write testdata/vectors.json anew")

// The vectors are for other implementations too: docs/attested-connections.md says what
// their fields are.
type vectors struct {
	Protocol  string           `json:"protocol"`
	Messages  []vectorMessage  `json:"messages"`
	Exporters []vectorExporter `json:"exporters"`
	Claims    []vectorClaims   `json:"claims"`
}

// A vectorMessage is one message, whole, as it is sent. Whose reader it is given to says
// its type; Error says that it must be refused.
type vectorMessage struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // what the reader awaits
	Hex       string `json:"hex"`
	Error     bool   `json:"error"`
	Nonce     string `json:"nonce,omitempty"`
	Attested  bool   `json:"attested,omitempty"`
	Evidence  string `json:"evidence,omitempty"`
	Signature string `json:"signature,omitempty"`
	Code      string `json:"code,omitempty"`
	Text      string `json:"text,omitempty"`
}

// A vectorExporter is one value, with the exporter_master_secret of RFC 8446, section
// 7.1, that it follows from (EXPORTER_SECRET in a TLS key log), with SHA-256.
type vectorExporter struct {
	Secret  string `json:"exporter_master_secret"`
	Label   string `json:"label"`
	Nonce   string `json:"nonce"`
	Role    Role   `json:"role"`
	Context string `json:"context"`
	Value   string `json:"value"`
}

// A vectorClaims is claims on a connection, and their report data.
type vectorClaims struct {
	Name       string `json:"name"`
	Hex        string `json:"hex"`
	ReportData string `json:"report_data,omitempty"`
	Error      bool   `json:"error"`
	Key        string `json:"key_sha256,omitempty"`
	Nonce      string `json:"nonce,omitempty"`
	Exporter   string `json:"exporter,omitempty"`
	Purpose    string `json:"purpose,omitempty"`
	Workload   string `json:"workload,omitempty"`
	Instance   string `json:"instance,omitempty"`
}

func (m vectorMessage) wire(t testing.TB) []byte {
	b, err := hex.DecodeString(m.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// count is n bytes that go up from first: no randomness, and each to be told apart.
func count(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

func names() map[string]kind {
	return map[string]kind{"request": kindRequest, "evidence": kindEvidence, "proof": kindProof, "accept": kindAccept, "refuse": kindRefuse}
}

// vectorMessages makes the messages, the good ones first.
func vectorMessages(t testing.TB) []vectorMessage {
	nonce, theirs, ev := count(0, 32), count(0x80, 32), []byte("evidence goes here")
	h := hex.EncodeToString
	out := []vectorMessage{
		{Name: "request", Type: "request", Nonce: h(nonce)},
		{Name: "request of a Keep", Type: "request", Nonce: h(nonce), Attested: true},
		{Name: "evidence", Type: "evidence", Evidence: h(ev)},
		{Name: "evidence with a workload's signature", Type: "evidence", Evidence: h(ev), Signature: h([]byte("signature"))},
		{Name: "evidence, mutual form", Type: "evidence", Evidence: h(ev), Nonce: h(theirs)},
		{Name: "proof", Type: "proof", Evidence: h(ev)},
		{Name: "accept", Type: "accept"},
		{Name: "refusal", Type: "refuse", Code: RefuseVerdict, Text: "not admitted"},
		{Name: "refusal without words", Type: "refuse", Code: RefuseBusy},
	}
	for i, m := range out {
		k := names()[m.Type]
		b := func(s string) []byte { return must(hex.DecodeString(s)) }
		var body any = accept{}
		switch k {
		case kindRequest:
			body = request{Nonce: b(m.Nonce), Attested: m.Attested}
		case kindEvidence, kindProof:
			body = proof{Evidence: b(m.Evidence), Nonce: b(m.Nonce), Signature: b(m.Signature)}
		case kindRefuse:
			body = refusal{Code: m.Code, Text: m.Text}
		}
		out[i].Hex = h(message(t, k, body))
	}
	bad := func(name, awaits string, b []byte) {
		out = append(out, vectorMessage{Name: name, Type: awaits, Hex: h(b), Error: true})
	}
	good := out[0].wire(t)
	bad("cut in the head", "request", good[:3])
	bad("cut in the body", "request", good[:len(good)-1])
	bad("not its turn", "evidence", good)
	bad("length beyond the bound of its type", "request", []byte{1, 0, 0, 1, 1})
	bad("unknown type", "request", []byte{6, 0, 0, 0, 1, 0xa0})
	bad("nonce of 31 bytes", "request", message(t, kindRequest, request{Nonce: nonce[:31]}))
	bad("nonce of 33 bytes", "request", message(t, kindRequest, request{Nonce: count(0, 33)}))
	bad("no nonce", "request", frame(kindRequest, []byte{0xa0}))
	bad("bytes behind the map", "request", frame(kindRequest, append(slices.Clone(good[5:]), 0)))
	bad("indefinite length", "request", frame(kindRequest, append(append([]byte{0xbf}, good[6:]...), 0xff)))
	bad("length not the shortest", "request", frame(kindRequest, append([]byte{0xb8, 1}, good[6:]...)))
	bad("key twice", "request", frame(kindRequest, append(append([]byte{0xa2}, good[6:]...), good[6:]...)))
	bad("unknown key", "request", frame(kindRequest, append(append([]byte{0xa2}, good[6:]...), body(t, map[string]int{"x": 1})[1:]...)))
	bad("keys in another order", "request", frame(kindRequest, append(append([]byte{0xa2}, append(body(t, "attested"), 0xf5)...), good[6:]...)))
	bad("attested is false, and there", "request", frame(kindRequest, append(append(append([]byte{0xa2}, good[6:]...), body(t, "attested")...), 0xf4)))
	bad("nonce as text", "request", frame(kindRequest, body(t, map[string]string{"nonce": strings.Repeat("n", 32)})))
	bad("a map within", "request", frame(kindRequest, body(t, map[string]any{"nonce": map[string]int{}})))
	bad("no evidence", "evidence", frame(kindEvidence, []byte{0xa0}))
	bad("empty evidence", "evidence", frame(kindEvidence, body(t, map[string][]byte{"evidence": {}})))
	bad("a nonce in a client's proof", "proof", message(t, kindProof, proof{Evidence: ev, Nonce: theirs}))
	bad("signature of 4,097 bytes", "evidence", message(t, kindEvidence, proof{Evidence: ev, Signature: make([]byte, maxAttached+1)}))
	bad("accept with something in it", "accept", frame(kindAccept, body(t, map[string]int{"x": 1})))
	bad("accept without a map", "accept", frame(kindAccept, nil))
	bad("refusal without a code", "accept", frame(kindRefuse, []byte{0xa0}))
	bad("refusal with a code of 33 bytes", "accept", message(t, kindRefuse, refusal{Code: strings.Repeat("c", 33)}))
	bad("refusal that is not UTF-8", "accept", frame(kindRefuse, append(append([]byte{0xa1}, body(t, "code")...), 0x61, 0xff)))
	return out
}

func vectorExporters(t testing.TB) (out []vectorExporter) {
	for i, role := range []Role{RoleServer, RoleClient} {
		secret, nonce := count(0x40, 32), count(byte(0x80*i), 32)
		context := append(slices.Clone(nonce), role...)
		out = append(out, vectorExporter{Secret: hex.EncodeToString(secret), Label: ExporterLabel, Nonce: hex.EncodeToString(nonce), Role: role,
			Context: hex.EncodeToString(context), Value: hex.EncodeToString(exported(t, secret, context))})
	}
	return out
}

// exported computes RFC 8446, section 7.5, from its own words.
func exported(t testing.TB, secret, context []byte) []byte {
	t.Helper()
	none, hash := sha256.Sum256(nil), sha256.Sum256(context)
	derived := expandLabel(t, secret, ExporterLabel, none[:], sha256.Size)
	return expandLabel(t, derived, "exporter", hash[:], ExporterSize)
}

func vectorsOfClaims(t testing.TB) (out []vectorClaims) {
	c := evidence.Claims{PubkeyHash: [32]byte(count(0x10, 32)), WorkloadDigest: [32]byte(count(0x20, 32)), Instance: [16]byte(count(0x30, 16)),
		Nonce: count(0, 32), Purpose: evidence.PurposeConnect, TLSExporter: must(hex.DecodeString(vectorExporters(t)[0].Value))}
	b := must(c.Encode())
	data := evidence.ReportData(b)
	h := hex.EncodeToString
	out = append(out, vectorClaims{Name: "of a server", Hex: h(b), ReportData: h(data[:]), Key: h(c.PubkeyHash[:]), Nonce: h(c.Nonce), Exporter: h(c.TLSExporter),
		Purpose: c.Purpose, Workload: h(c.WorkloadDigest[:]), Instance: h(c.Instance[:])})
	out = append(out, vectorClaims{Name: "bytes behind the map", Hex: h(append(slices.Clone(b), 0)), Error: true})
	out = append(out, vectorClaims{Name: "unknown purpose", Hex: h(bytes.Replace(b, []byte("connect"), []byte("konnect"), 1)), Error: true})
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

const vectorFile = "testdata/vectors.json"

func readVectors(t testing.TB) vectors {
	t.Helper()
	var v vectors
	b, err := os.ReadFile(vectorFile)
	if err == nil {
		err = json.Unmarshal(b, &v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The file is what the generator makes, to the byte.
func TestVectorsAreCurrent(t *testing.T) {
	v := vectors{Protocol, vectorMessages(t), vectorExporters(t), vectorsOfClaims(t)}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(filepath.Dir(vectorFile), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vectorFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got := must(os.ReadFile(vectorFile)); !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is not what go test ./attest/atls -update makes", vectorFile)
	}
}

// Each message of the file is read as it says.
func TestVectorMessages(t *testing.T) {
	good, refused := 0, 0
	for _, m := range readVectors(t).Messages {
		awaits := names()[m.Type]
		r := bytes.NewReader(m.wire(t))
		k, b, err := read(r, awaits)
		h := hex.EncodeToString
		got := vectorMessage{Name: m.Name, Type: m.Type, Hex: m.Hex}
		var remote *RemoteError
		switch {
		case errors.As(err, &remote):
			got.Code, got.Text = remote.Code, remote.Text
			err = nil
			if awaits != kindRefuse {
				err = remote
			}
		case err != nil:
		case k == kindRequest:
			var q request
			q, err = decodeRequest(b)
			got.Nonce, got.Attested = h(q.Nonce), q.Attested
		case k == kindAccept:
			err = decode(b, &accept{})
		default:
			var p proof
			p, err = decodeProof(k, b)
			got.Evidence, got.Nonce, got.Signature = h(p.Evidence), h(p.Nonce), h(p.Signature)
		}
		switch {
		case m.Error != (err != nil):
			t.Errorf("%s: found %v", m.Name, err)
		case m.Error:
			refused++
		case got != m || r.Len() != 0:
			t.Errorf("%s: found %+v, wanted %+v", m.Name, got, m)
		default:
			good++
		}
	}
	if good < 9 || refused < 25 {
		t.Errorf("%d good messages, %d refused", good, refused)
	}
}

func TestVectorExporters(t *testing.T) {
	for _, x := range readVectors(t).Exporters {
		b := func(s string) []byte { return must(hex.DecodeString(s)) }
		if want := append(b(x.Nonce), x.Role...); !bytes.Equal(b(x.Context), want) || x.Label != ExporterLabel {
			t.Errorf("found the context %s", x.Context)
		}
		if got := exported(t, b(x.Secret), b(x.Context)); !bytes.Equal(got, b(x.Value)) {
			t.Errorf("found %x, wanted %s", got, x.Value)
		}
	}
}

// The way in which the vectors are computed is TLS's: on a connection with OpenSSL, whose
// key log has the secret, Exporter gives the same.
func TestExporterAgainstOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	keys := filepath.Join(t.TempDir(), "keys")
	c := exec.Command("openssl", "s_client", "-connect", l.Addr().String(), "-alpn", Protocol, "-keylogfile", keys)
	in, err := c.StdinPipe() // it ends with this
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	k := newKeep(t, newSilicon(t), 1)
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Server(raw, k.server().TLS(k.tls()))
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	state := conn.ConnectionState()
	_ = conn.Close()
	_ = in.Close()
	_ = c.Wait()
	if state.CipherSuite == tls.TLS_AES_256_GCM_SHA384 {
		t.Skip("the connection's hash is SHA-384, the vectors' SHA-256")
	}
	secret := logged(t, string(must(os.ReadFile(keys))), "EXPORTER_SECRET")
	for _, role := range []Role{RoleServer, RoleClient} {
		nonce := count(7, 32)
		got, err := Exporter(&state, nonce, role)
		if want := exported(t, secret, append(slices.Clone(nonce), role...)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: found %x, wanted %x, %v", role, got, want, err)
		}
	}
	if _, err := Exporter(&state, count(7, 31), RoleServer); err == nil {
		t.Error("a nonce of 31 bytes has an exporter value")
	}
}

func TestVectorClaims(t *testing.T) {
	for _, x := range readVectors(t).Claims {
		b := must(hex.DecodeString(x.Hex))
		c, err := evidence.ParseClaims(b)
		if (err != nil) != x.Error {
			t.Errorf("%s: found %v", x.Name, err)
		}
		if err != nil {
			continue
		}
		h, data := hex.EncodeToString, evidence.ReportData(b)
		got := vectorClaims{Name: x.Name, Hex: x.Hex, ReportData: h(data[:]), Key: h(c.PubkeyHash[:]), Nonce: h(c.Nonce), Exporter: h(c.TLSExporter), Purpose: c.Purpose,
			Workload: h(c.WorkloadDigest[:]), Instance: h(c.Instance[:])}
		if got != x {
			t.Errorf("found %+v, wanted %+v", got, x)
		}
	}
}

// The worked example of the documentation is the vectors'.
func TestDocumentedExample(t *testing.T) {
	text := string(must(os.ReadFile("../../docs/attested-connections.md")))
	v := readVectors(t)
	known := map[string]string{}
	for _, m := range v.Messages {
		known[m.Name] = m.Hex
	}
	for _, e := range v.Exporters {
		known[string(e.Role)] = e.Value
	}
	for _, c := range v.Claims {
		known[c.Name] = c.Hex
	}
	n := 0
	for _, block := range strings.Split(text, "```vectors\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			name, hex, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if known[name] != hex || hex == "" {
				t.Errorf("%s: found %s, wanted %s", name, hex, known[name])
			}
			n++
		}
	}
	if n != 10 {
		t.Errorf("found %d lines", n)
	}
	for _, word := range []string{ExporterLabel, Protocol, RefuseBusy, RefuseMalformed, RefuseVerdict, RefuseEvidence, RefuseInternal} {
		if !strings.Contains(text, "`"+word+"`") {
			t.Errorf("%s is not in it", word)
		}
	}
}
