package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/donjon-tee/donjon/steward/audit"
)

// A backup is backupMagic, then entries: a length (32 bits, big endian) and so many
// bytes of CBOR. The first is a backupHeader; each other a row: the table's number in
// tables, then its columns, in their order. An empty entry ends it; the SHA-256 of
// all before follows.
const backupMagic = "DNJBAK1\n"

// backupForm counts the forms of tables. Form 1 had no MACs: what it brings back has
// none, and is adopted or made anew. A backup of a later form is refused.
const backupForm = 2

const maxEntry = MaxValue + 64<<10

// restoreTime bounds a restore, which is one transaction.
const restoreTime = 10 * time.Minute

type table struct {
	name    string
	columns string // the kind of each after a colon: i(nteger), t(ext), b(ytes), n(ullable bytes)
	order   string
}

// tables are all that a backup of this form holds, in an order that never changes.
func tables(form uint64) []table {
	proof, retained := " mac:b key_id:t", " retained:i"
	if form < 2 {
		proof, retained = "", ""
	}
	return []table{
		{"state", "log:b seq:i hash:b epoch:i opened:i reason:t confirmed:i purged:i" + retained, "id"},
		{"audit", "seq:i record:b", "seq"},
		{"decisions", "seq:i at:i workload:t instance:t tee:t simulated:i outcome:t code:t tcb_status:t platform:t exposed:t policy:i request:t who:t detail:n", "seq"},
		{"counts", "hour:i tee:t outcome:t n:i", "hour, tee, outcome"},
		{"used", "kind:t digest:b expires:i", "digest, kind"},
		{"leases", "workload:t instance:t until:i seq:i", "workload, instance"},
		{"signers", "signer:t name:t version:i", "signer, name"},
		{"certificates", "serial:b ca:t workload:t instance:t not_before:i not_after:i seq:i", "serial"},
		{"workloads", "digest:t name:t first_seen:i manifest:n", "digest"},
		{"policies", "workload:t version:i text:b digest:b at:i who:t" + proof, "workload, version"},
		{"secrets", "workload:t name:t version:i sealed:n key_id:t policy:b at:i who:t deleted:i", "workload, name, version"},
		{"confirmations", "workload:t name:t version:i policy:b at:i who:t mac:b key_id:t", "workload, name, version, policy"},
		{"tokens", "id:t name:t hash:b scopes:t created:i who:t expires:i revoked:i" + proof, "id"},
		{"kept", "name:t data:b version:i" + proof, "name"},
		{"heads", "seq:i head:b", "id"},
	}
}

// split gives the columns' names and kinds.
func (t table) split() (names []string, kinds string) {
	for _, c := range strings.Fields(t.columns) {
		name, kind, _ := strings.Cut(c, ":")
		names, kinds = append(names, name), kinds+kind
	}
	return names, kinds
}

func (t table) insert() string {
	names, _ := t.split()
	places := strings.Repeat(", ?", len(names))[2:]
	if t.order == "id" && (t.name == "state" || t.name == "heads") {
		return "INSERT INTO " + t.name + " (id, " + strings.Join(names, ", ") + ") VALUES (1, " + places + ")"
	}
	return "INSERT INTO " + t.name + " (" + strings.Join(names, ", ") + ") VALUES (" + places + ")"
}

type backupHeader struct {
	Form     uint64 `cbor:"1,keyasint"`
	Database string `cbor:"2,keyasint"` // where it is from; any can restore it
}

type backupWriter struct {
	w   *bufio.Writer
	sum hash.Hash
}

func (b *backupWriter) put(v []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(v)))
	b.sum.Write(head)
	b.sum.Write(v)
	if _, err := b.w.Write(head); err != nil {
		return err
	}
	_, err := b.w.Write(v)
	return err
}

func (d *db) Backup(ctx context.Context, w io.Writer) error {
	t, err := d.beginTx(ctx, d.reads, d.beginRead())
	if err != nil {
		return d.translate(err)
	}
	defer t.rollback()
	out := &backupWriter{w: bufio.NewWriterSize(w, 256<<10), sum: sha256.New()}
	out.sum.Write([]byte(backupMagic))
	if _, err := out.w.WriteString(backupMagic); err != nil {
		return err
	}
	head, err := cbor.Marshal(backupHeader{Form: backupForm, Database: d.name()})
	if err != nil {
		return err
	}
	if err := out.put(head); err != nil {
		return err
	}
	for i, tab := range tables(backupForm) {
		if err := tab.dump(ctx, t, i, out); err != nil {
			return err
		}
	}
	if err := out.put(nil); err != nil {
		return err
	}
	if _, err := out.w.Write(out.sum.Sum(nil)); err != nil {
		return err
	}
	return out.w.Flush()
}

func (t table) dump(ctx context.Context, in *tx, number int, out *backupWriter) error {
	names, kinds := t.split()
	var failed error // of the writer, not of the database
	err := in.each(ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+t.name+" ORDER BY "+t.order, nil, func(scan func(...any) error) error {
		dest := make([]any, len(kinds))
		for i, k := range kinds {
			switch k {
			case 'i':
				dest[i] = new(int64)
			case 't':
				dest[i] = new(string)
			default:
				dest[i] = new([]byte)
			}
		}
		if err := scan(dest...); err != nil {
			return err
		}
		for i, k := range kinds {
			// Empty bytes may be scanned as none.
			if b, ok := dest[i].(*[]byte); ok && k == 'b' && *b == nil {
				*b = []byte{}
			}
		}
		row, err := cbor.Marshal(append([]any{number}, dest...))
		if err == nil {
			err = out.put(row)
		}
		failed = err
		return err
	})
	if failed != nil {
		return failed
	}
	return in.d.translate(err)
}

// backupReader takes a backup apart, one row in memory at a time.
type backupReader struct {
	form uint64
	r    *bufio.Reader
	sum  hash.Hash
	dec  cbor.DecMode
}

func badBackup(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrBackup}, args...)...)
}

func newBackupReader(r io.Reader) (*backupReader, error) {
	dec, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 4, MaxArrayElements: 64, MaxMapPairs: 16, ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		return nil, err
	}
	in := &backupReader{r: bufio.NewReaderSize(r, 256<<10), sum: sha256.New(), dec: dec}
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(in.r, magic); err != nil || string(magic) != backupMagic {
		return nil, badBackup("found %q at its beginning, wanted %q", magic, backupMagic)
	}
	in.sum.Write(magic)
	b, err := in.next()
	if err != nil {
		return nil, err
	}
	var head backupHeader
	if err := dec.Unmarshal(b, &head); err != nil || head.Form < 1 || head.Form > backupForm {
		return nil, badBackup("found form %d, wanted 1 to %d", head.Form, backupForm)
	}
	in.form = head.Form
	return in, nil
}

// next gives an entry's bytes. io.EOF: the backup has ended as it should.
func (in *backupReader) next() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(in.r, head[:]); err != nil {
		return nil, badBackup("it ends too early: %w", err)
	}
	in.sum.Write(head[:])
	n := binary.BigEndian.Uint32(head[:])
	if n > maxEntry {
		return nil, badBackup("found an entry of %d bytes, at most %d", n, maxEntry)
	}
	if n == 0 {
		sum := make([]byte, sha256.Size)
		if _, err := io.ReadFull(in.r, sum); err != nil || !bytes.Equal(sum, in.sum.Sum(nil)) {
			return nil, badBackup("its checksum does not hold")
		}
		if _, err := in.r.ReadByte(); !errors.Is(err, io.EOF) {
			return nil, badBackup("found bytes after its end")
		}
		return nil, io.EOF
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(in.r, b); err != nil {
		return nil, badBackup("it ends too early: %w", err)
	}
	in.sum.Write(b)
	return b, nil
}

// row reads a row: the table's number and the columns' values.
func (in *backupReader) row(b []byte, tabs []table) (int, []any, error) {
	var parts []cbor.RawMessage
	if err := in.dec.Unmarshal(b, &parts); err != nil || len(parts) == 0 {
		return 0, nil, badBackup("an entry is no row")
	}
	var n int
	if err := in.dec.Unmarshal(parts[0], &n); err != nil || n < 0 || n >= len(tabs) {
		return 0, nil, badBackup("found a row of no table")
	}
	_, kinds := tabs[n].split()
	if len(parts)-1 != len(kinds) {
		return 0, nil, badBackup("found %d columns of %s, wanted %d", len(parts)-1, tabs[n].name, len(kinds))
	}
	out := make([]any, len(kinds))
	for i, k := range kinds {
		var err error
		raw := parts[i+1]
		null := len(raw) == 1 && raw[0] == 0xf6
		switch {
		case null && k == 'n':
		case null:
			err = errors.New("null")
		case k == 'i':
			var v int64
			err = in.dec.Unmarshal(raw, &v)
			out[i] = v
		case k == 't':
			var v string
			if err = in.dec.Unmarshal(raw, &v); err == nil {
				err = textTo("a text", v, 0, 64*MaxText)
			}
			out[i] = v
		default:
			var v []byte
			err = in.dec.Unmarshal(raw, &v)
			if v == nil {
				v = []byte{}
			}
			out[i] = v
		}
		if err != nil {
			return 0, nil, badBackup("column %d of %s: %w", i+1, tabs[n].name, err)
		}
	}
	return n, out, nil
}

func (d *db) Restore(ctx context.Context, r io.Reader, by Actor) (Epoch, error) {
	if err := by.valid(); err != nil {
		return Epoch{}, err
	}
	in, err := newBackupReader(r)
	if err != nil {
		return Epoch{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, restoreTime)
	defer cancel()
	t, err := d.beginTx(ctx, d.writes, d.begin())
	if err != nil {
		return Epoch{}, d.translate(err)
	}
	epoch, err := d.restoreIn(ctx, t, in, by)
	if err != nil {
		t.rollback()
		return Epoch{}, d.translate(err)
	}
	if err := t.commit(ctx); err != nil {
		return Epoch{}, d.translate(err)
	}
	_, err = d.readState(ctx)
	return epoch, err
}

func (d *db) restoreIn(ctx context.Context, t *tx, in *backupReader, by Actor) (Epoch, error) {
	if d.name() == "postgresql" {
		if _, err := t.exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", restoreTime.Milliseconds())); err != nil {
			return Epoch{}, err
		}
	}
	if _, err := t.state(ctx); err != nil {
		return Epoch{}, err
	}
	tabs := tables(in.form)
	for _, tab := range tabs {
		var n int64
		if err := t.row(ctx, "SELECT COUNT(*) FROM "+tab.name, nil, &n); err != nil {
			return Epoch{}, err
		}
		if n > 0 && tab.name != "state" && (tab.name != "audit" || n > 1) {
			return Epoch{}, refuse(ErrNotEmpty, "found %d rows in %s", n, tab.name)
		}
	}
	for _, name := range []string{"state", "audit"} {
		if _, err := t.exec(ctx, "DELETE FROM "+name); err != nil {
			return Epoch{}, err
		}
	}
	chain, states, err := d.insertAll(ctx, t, in, tabs)
	if err != nil {
		return Epoch{}, err
	}
	if states != 1 {
		return Epoch{}, refuse(ErrBackup, "found %d state rows", states)
	}
	s, err := t.state(ctx)
	if err != nil {
		return Epoch{}, err
	}
	if s.chain.Seq != chain.Seq || s.chain.Hash != chain.Hash {
		return Epoch{}, refuse(ErrBackup, "its audit log ends at record %d (%s), its state says %d (%s)", chain.Seq, chain.Hash, s.chain.Seq, s.chain.Hash)
	}
	epoch := s.open("a backup was restored", by)
	if err := t.append(ctx, s, &audit.Record{Kind: audit.EpochOpen, Who: by.Who, Text: epoch.Reason}, by.At); err != nil {
		return Epoch{}, err
	}
	return epoch, t.putState(ctx, s)
}

// add follows the chain over a record, or what is left of one.
func add(chain *audit.Chain, b []byte) error {
	if audit.IsStub(b) {
		_, err := chain.AddStub(b)
		return err
	}
	_, err := chain.Add(b)
	return err
}

// insertAll writes the backup's rows and follows its audit chain.
func (d *db) insertAll(ctx context.Context, t *tx, in *backupReader, tabs []table) (audit.Chain, int, error) {
	var chain audit.Chain
	states, last, held := 0, 0, 0
	var batch []statement
	for {
		b, err := in.next()
		if errors.Is(err, io.EOF) {
			if err := chain.End(); err != nil {
				return chain, 0, refuse(ErrBackup, "its audit log: %w", err)
			}
			return chain, states, d.bulk(ctx, t, batch)
		}
		if err != nil {
			return chain, 0, err
		}
		n, values, err := in.row(b, tabs)
		if err != nil {
			return chain, 0, err
		}
		if n < last {
			return chain, 0, refuse(ErrBackup, "found a row of %s after one of %s", tabs[n].name, tabs[last].name)
		}
		last = n
		switch tabs[n].name {
		case "state":
			log, _ := values[0].([]byte)
			if states++; len(log) != len(audit.LogID{}) || states > 1 {
				return chain, 0, refuse(ErrBackup, "its state row")
			}
			chain = audit.NewChain(audit.LogID(log))
		case "audit":
			rec, _ := values[1].([]byte)
			if err := add(&chain, rec); err != nil {
				return chain, 0, refuse(ErrBackup, "its audit log: %w", err)
			}
			if seq, _ := values[0].(int64); uint64(seq) != chain.Seq {
				return chain, 0, refuse(ErrBackup, "record %d has the number %d", chain.Seq, seq)
			}
		}
		batch, held = append(batch, stmt(tabs[n].insert(), values...)), held+len(b)
		if len(batch) >= 500 || held > 4<<20 {
			if err := d.bulk(ctx, t, batch); err != nil {
				return chain, 0, err
			}
			batch, held = batch[:0], 0
		}
	}
}
