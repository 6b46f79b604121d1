package p11

// Mechanisms, object classes, key types and flags that the client uses (PKCS#11 v3.1).
const (
	CKMSHA256HMAC          = 0x251
	CKMGenericSecretKeyGen = 0x350

	ckoSecretKey     = 4
	ckkGenericSecret = 0x10
	ckuUser          = 1

	ckfRWSession     = 0x2
	ckfSerialSession = 0x4

	ckfLoginRequired      = 0x4
	ckfProtectedPath      = 0x100
	ckfTokenInitialized   = 0x400
	ckfUserPINCountLow    = 0x10000
	ckfUserPINFinalTry    = 0x20000
	ckfUserPINLocked      = 0x40000
	ckfUserPINToBeChanged = 0x80000
)

// parameterless says whether a mechanism has no parameter: both sides have to agree,
// since from Version2 on nothing on the wire tells. It lists what is used here.
func parameterless(m uint32) bool {
	return m == CKMSHA256HMAC || m == CKMGenericSecretKeyGen
}
