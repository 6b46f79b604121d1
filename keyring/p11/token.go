//go:build unix

package p11

import (
	"errors"
	"fmt"
	"strings"
)

// The errors of a token.
var (
	ErrNoToken    = errors.New("p11: no such token")
	ErrManyTokens = errors.New("p11: more than one such token")
	ErrNoKey      = errors.New("p11: no such key in the token")
	ErrManyKeys   = errors.New("p11: more than one such key in the token")
	ErrWeakKey    = errors.New("p11: the key does not stay in the token")
	ErrPIN        = errors.New("p11: the token refuses the PIN")
	ErrPINNeeded  = errors.New("p11: the token wants a PIN")
	ErrPINBlocked = errors.New("p11: the PIN was not tried")
)

// TokenInfo is a part of CK_TOKEN_INFO.
type TokenInfo struct {
	Label, Manufacturer, Model, Serial string
	Flags                              uint64
}

// Token is a token with an open session.
type Token struct {
	Info TokenInfo

	conn    *Conn
	session uint64
}

// maxSlots bounds the list of slots; nobody has as many.
const maxSlots = 256

// Token finds the token that u names and opens a session, in which write says whether
// keys can be made. Errors: ErrNoToken, ErrManyTokens and those of a call.
func (c *Conn) Token(u URI, write bool) (*Token, error) {
	slots, err := c.slots()
	if err != nil {
		return nil, err
	}
	var at []uint64
	var info TokenInfo
	var there []string
	for _, slot := range slots {
		i, err := c.tokenInfo(slot)
		if errors.Is(err, CKRTokenNotPresent) || errors.Is(err, CKRTokenNotRecognized) || errors.Is(err, CKRSlotIDInvalid) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if i.Label == u.Token && (u.Serial == "" || i.Serial == u.Serial) && i.Flags&ckfTokenInitialized != 0 {
			at, info = append(at, slot), i
		} else if i.Flags&ckfTokenInitialized != 0 && len(there) < 8 {
			there = append(there, fmt.Sprintf("%q (serial %q)", i.Label, i.Serial))
		}
	}
	switch len(at) {
	case 0:
		if there == nil {
			there = []string{"none"}
		}
		return nil, fmt.Errorf("%w: wanted %q, found %s", ErrNoToken, u.Token, strings.Join(there, ", "))
	case 1:
	default:
		return nil, fmt.Errorf("%w: %d with the label %q: name one by its serial", ErrManyTokens, len(at), u.Token)
	}
	flags := uint64(ckfSerialSession)
	if write {
		flags |= ckfRWSession
	}
	d, err := c.call(NewEncoder(OpenSession, Request).Ulong(at[0]).Ulong(flags))
	if err != nil {
		return nil, err
	}
	t := &Token{Info: info, conn: c, session: d.Ulong()}
	return t, c.done(d)
}

// slots lists those with a token in them.
func (c *Conn) slots() ([]uint64, error) {
	d, err := c.call(NewEncoder(GetSlotList, Request).Byte(1).RoomUlongs(maxSlots))
	if err != nil {
		return nil, err
	}
	list, count := d.Ulongs()
	if err := c.done(d); err != nil {
		return nil, err
	}
	if list == nil && count > 0 {
		return nil, c.breaks(fmt.Errorf("%w: %d slots, at most %d", ErrTooLarge, count, maxSlots))
	}
	return list, nil
}

func (c *Conn) tokenInfo(slot uint64) (TokenInfo, error) {
	d, err := c.call(NewEncoder(GetTokenInfo, Request).Ulong(slot))
	if err != nil {
		return TokenInfo{}, err
	}
	var i TokenInfo
	i.Label, i.Manufacturer, i.Model, i.Serial = d.Padded(32), d.Padded(32), d.Padded(16), d.Padded(16)
	i.Flags = d.Ulong()
	for range 10 { // sessions, lengths of PINs, memory
		d.Ulong()
	}
	d.Version() // hardware
	d.Version() // firmware
	d.Padded(16)
	return i, c.done(d)
}

// Login logs the user in, once: a token counts wrong PINs and locks itself. Where one
// more would do that, nothing is tried. A nil pin is for tokens that need none, or take
// it at the device. Errors: ErrPIN, ErrPINNeeded, ErrPINBlocked and those of a call.
func (t *Token) Login(pin []byte) error {
	flags := t.Info.Flags
	switch {
	case flags&ckfUserPINLocked != 0:
		return fmt.Errorf("%w: it is locked", ErrPINBlocked)
	case flags&ckfUserPINFinalTry != 0:
		return fmt.Errorf("%w: one wrong one more locks the token", ErrPINBlocked)
	case flags&ckfUserPINToBeChanged != 0:
		return fmt.Errorf("%w: the token wants another one to be set first", ErrPINBlocked)
	case pin == nil && flags&ckfLoginRequired == 0:
		return nil
	case pin == nil && flags&ckfProtectedPath == 0:
		return ErrPINNeeded
	}
	err := t.conn.quiet(NewEncoder(Login, Request).Ulong(t.session).Ulong(ckuUser).Bytes(pin))
	switch {
	case errors.Is(err, CKRUserAlreadyLoggedIn):
		return nil
	case errors.Is(err, CKRPINIncorrect), errors.Is(err, CKRPINInvalid), errors.Is(err, CKRPINLenRange), errors.Is(err, CKRPINLocked), errors.Is(err, CKRPINExpired):
		return fmt.Errorf("%w: %w", ErrPIN, err)
	}
	return err
}

// Key is a secret key in a token.
type Key struct {
	token  *Token
	handle uint64
}

// Key finds the secret key that u names. It must be sensitive and not extractable, and
// have 32 bytes or more where it says how many. Errors: ErrNoKey, ErrManyKeys,
// ErrWeakKey and those of a call.
func (t *Token) Key(u URI) (*Key, error) {
	if err := t.conn.quiet(NewEncoder(FindObjectsInit, Request).Ulong(t.session).Attributes(append(names(u), Bool(CKAToken, true)))); err != nil {
		return nil, err
	}
	d, err := t.conn.call(NewEncoder(FindObjects, Request).Ulong(t.session).RoomUlongs(2))
	if err != nil {
		return nil, err
	}
	list, _ := d.Ulongs()
	if err := t.conn.done(d); err != nil {
		return nil, err
	}
	if err := t.conn.quiet(NewEncoder(FindObjectsFinal, Request).Ulong(t.session)); err != nil {
		return nil, err
	}
	switch len(list) {
	case 0:
		return nil, fmt.Errorf("%w: %s", ErrNoKey, u)
	case 1:
	default:
		return nil, fmt.Errorf("%w: %s: name one by its id", ErrManyKeys, u)
	}
	k := &Key{t, list[0]}
	return k, k.check()
}

// names is how u finds a key, and how one is made.
func names(u URI) []Attribute {
	list := []Attribute{Ulong(CKAClass, ckoSecretKey)}
	if u.Object != "" {
		list = append(list, Bytes(CKALabel, []byte(u.Object)))
	}
	if u.ID != nil {
		list = append(list, Bytes(CKAID, u.ID))
	}
	return list
}

func (k *Key) check() error {
	asked := []Room{{CKASensitive, 1}, {CKAExtractable, 1}, {CKAValueLen, 8}}
	d, err := k.token.conn.call(NewEncoder(GetAttributeValue, Request).Ulong(k.token.session).Ulong(k.handle).RoomAttributes(asked))
	if err != nil {
		return err
	}
	list := d.Attributes()
	_ = d.Ulong() // what of it the token does not know is marked so, too
	if err := k.token.conn.done(d); err != nil {
		return err
	}
	for i, a := range list {
		if len(list) != len(asked) || a.Type != asked[i].Type {
			return k.token.conn.breaks(fmt.Errorf("%w: other attributes than were asked for", ErrMalformed))
		}
	}
	if len(list) == 0 {
		return k.token.conn.breaks(fmt.Errorf("%w: no attributes", ErrMalformed))
	}
	if v, ok := list[0].Bool(); !ok || !v {
		return fmt.Errorf("%w: wanted CKA_SENSITIVE true", ErrWeakKey)
	}
	if v, ok := list[1].Bool(); !ok || v {
		return fmt.Errorf("%w: wanted CKA_EXTRACTABLE false", ErrWeakKey)
	}
	if n, ok := list[2].Ulong(); ok && n < 32 {
		return fmt.Errorf("%w: found %d bytes, wanted 32", ErrWeakKey, n)
	}
	return nil
}

// Generate makes the key that u names: a generic secret of 32 bytes that stays in the
// token and signs. The token must have been opened for writing.
func (t *Token) Generate(u URI) error {
	template := append(names(u), Ulong(CKAKeyType, ckkGenericSecret), Ulong(CKAValueLen, 32), Bool(CKAToken, true), Bool(CKAPrivate, true),
		Bool(CKASensitive, true), Bool(CKAExtractable, false), Bool(CKASign, true), Bool(CKAEncrypt, false), Bool(CKADecrypt, false),
		Bool(CKAWrap, false), Bool(CKAUnwrap, false), Bool(CKADerive, false))
	d, err := t.conn.call(NewEncoder(GenerateKey, Request).Ulong(t.session).Mechanism(CKMGenericSecretKeyGen, t.conn.Version).Attributes(template))
	if err != nil {
		return err
	}
	_ = d.Ulong()
	return t.conn.done(d)
}

// HMAC is HMAC-SHA-256 of message under the key, 32 bytes, made in the token.
func (k *Key) HMAC(message []byte) ([]byte, error) {
	t := k.token
	if err := t.conn.quiet(NewEncoder(SignInit, Request).Ulong(t.session).Mechanism(CKMSHA256HMAC, t.conn.Version).Ulong(k.handle)); err != nil {
		return nil, err
	}
	d, err := t.conn.call(NewEncoder(Sign, Request).Ulong(t.session).Bytes(message).RoomBytes(64))
	if err != nil {
		return nil, err
	}
	sum, _ := d.Bytes()
	if err := t.conn.done(d); err != nil {
		return nil, err
	}
	if len(sum) != 32 {
		return nil, t.conn.breaks(fmt.Errorf("%w: an HMAC of %d bytes, wanted 32", ErrMalformed, len(sum)))
	}
	return sum, nil
}
