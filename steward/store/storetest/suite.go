package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/donjon-tee/donjon/steward/store"
)

// Fresh makes an empty database and gives what opens it, once more at each call.
type Fresh func(t testing.TB) (open func(store.Options) store.Store)

// Run runs the suite.
func Run(t *testing.T, fresh Fresh) {
	for name, f := range map[string]func(*testing.T, func(store.Options) store.Store){
		"decide":             testDecide,
		"challenge-once":     testOnce,
		"challenge-race":     testRace,
		"lease":              testLease,
		"lease-race":         testLeaseRace,
		"signer":             testSigner,
		"signer-race":        testSignerRace,
		"signer-standing":    testSignerStanding,
		"standing":           testStanding,
		"purge":              testPurge,
		"epoch":              testEpoch,
		"batch-with-one-bad": testBatch,
		"lists":              testLists,
		"certificates":       testCertificates,
		"workloads":          testWorkloads,
		"policies":           testPolicies,
		"secrets":            testSecrets,
		"secret-race":        testSecretRace,
		"tokens":             testTokens,
		"values":             testValues,
		"proofs":             testProofs,
		"retention":          testRetention,
		"audit":              testAudit,
		"agree":              testAgree,
		"hostile-text":       testHostileText,
		"invalid":            testInvalid,
		"busy":               testBusy,
		"reopen":             testReopen,
	} {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
	t.Run("backup", func(t *testing.T) { Backup(t, fresh, fresh) })
	t.Run("backup-purged", func(t *testing.T) { RestorePurged(t, fresh, fresh) })
	t.Run("backup-hostile", func(t *testing.T) { testBackupHostile(t, fresh(t), fresh) })
}

func open(t testing.TB, f func(store.Options) store.Store) store.Store {
	t.Helper()
	s := f(store.Options{Guard: Guard{}, Clock: func() time.Time { return T0 }})
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("found the error %v, wanted %v", err, target)
	}
}

func equal[T comparable](t testing.TB, what string, found, wanted T) {
	t.Helper()
	if found != wanted {
		t.Fatalf("%s: found %v, wanted %v", what, found, wanted)
	}
}
