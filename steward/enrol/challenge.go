package enrol

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"time"

	"github.com/donjon-tee/donjon/steward/authority"
)

// A challenge, 60 bytes:
//
//	0  1  version, 1
//	1  3  id of the key that sealed it
//	4  8  when it expires, seconds since 1970, big endian
//	12 16 random
//	28 32 HMAC-SHA-256 of a label, the epoch and the bytes before
//
// Nothing is stored when one is made: that it is good once is recorded with the
// decision. The epoch is in the seal alone, so that challenges from before a backup
// was restored are not known any more (THREATS T15).
const (
	challengeVersion = 1
	challengeSize    = 60
	sealedSize       = 28
	challengeLabel   = "donjon enrol challenge/1\x00"
)

var (
	errChallengeUnknown = errors.New("not one that this Steward made")
	errChallengeExpired = errors.New("its time has passed")
)

func makeChallenge(k authority.ChallengeKey, epoch uint64, expires time.Time) []byte {
	b := make([]byte, sealedSize, challengeSize)
	b[0] = challengeVersion
	copy(b[1:], k.ID[:])
	binary.BigEndian.PutUint64(b[4:], uint64(expires.Unix()))
	rand.Read(b[12:])
	return append(b, sealOf(k, epoch, b)...)
}

// checkChallenge says whether b is a challenge made under one of the keys in this
// epoch that has not expired, and when it does. One that ends later than any made
// now would is from a clock that has stepped back since: unknown.
func checkChallenge(keys []authority.ChallengeKey, epoch uint64, b []byte, now time.Time, life time.Duration) (time.Time, error) {
	if len(b) != challengeSize || b[0] != challengeVersion {
		return time.Time{}, errChallengeUnknown
	}
	ok := false
	for _, k := range keys {
		if [3]byte(b[1:4]) == k.ID {
			ok = hmac.Equal(b[sealedSize:], sealOf(k, epoch, b[:sealedSize])) || ok
		}
	}
	seconds := binary.BigEndian.Uint64(b[4:])
	if !ok || seconds > 1<<40 {
		return time.Time{}, errChallengeUnknown
	}
	expires := time.Unix(int64(seconds), 0).UTC()
	switch {
	case !now.Before(expires):
		return expires, errChallengeExpired
	case expires.After(now.Add(life + time.Second)):
		return expires, errChallengeUnknown
	}
	return expires, nil
}

func sealOf(k authority.ChallengeKey, epoch uint64, b []byte) []byte {
	m := hmac.New(sha256.New, k.Key[:])
	m.Write([]byte(challengeLabel))
	m.Write(binary.BigEndian.AppendUint64(nil, epoch))
	m.Write(b)
	return m.Sum(nil)
}
