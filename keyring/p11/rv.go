package p11

import "fmt"

// RV is a CK_RV other than CKR_OK: what a call answered instead.
type RV uint64

// The answers that mean something to a caller (PKCS#11 v3.1, 5.1).
const (
	CKRSlotIDInvalid         RV = 0x003
	CKRGeneralError          RV = 0x005
	CKRFunctionFailed        RV = 0x006
	CKRAttributeSensitive    RV = 0x011
	CKRAttributeTypeInvalid  RV = 0x012
	CKRDeviceError           RV = 0x030
	CKRDeviceMemory          RV = 0x031
	CKRDeviceRemoved         RV = 0x032
	CKRKeyHandleInvalid      RV = 0x060
	CKRKeyFunction           RV = 0x068
	CKRMechanismInvalid      RV = 0x070
	CKRPINIncorrect          RV = 0x0a0
	CKRPINInvalid            RV = 0x0a1
	CKRPINLenRange           RV = 0x0a2
	CKRPINExpired            RV = 0x0a3
	CKRPINLocked             RV = 0x0a4
	CKRTokenNotPresent       RV = 0x0e0
	CKRTokenNotRecognized    RV = 0x0e1
	CKRTokenWriteProtected   RV = 0x0e2
	CKRUserAlreadyLoggedIn   RV = 0x100
	CKRUserNotLoggedIn       RV = 0x101
	CKRUserPINNotInitialized RV = 0x102
	CKRBufferTooSmall        RV = 0x150
	CKRAlreadyInitialized    RV = 0x191
)

var rvNames = map[RV]string{
	CKRSlotIDInvalid: "CKR_SLOT_ID_INVALID", CKRGeneralError: "CKR_GENERAL_ERROR", CKRFunctionFailed: "CKR_FUNCTION_FAILED",
	CKRAttributeSensitive: "CKR_ATTRIBUTE_SENSITIVE", CKRAttributeTypeInvalid: "CKR_ATTRIBUTE_TYPE_INVALID",
	CKRDeviceError: "CKR_DEVICE_ERROR", CKRDeviceMemory: "CKR_DEVICE_MEMORY", CKRDeviceRemoved: "CKR_DEVICE_REMOVED",
	CKRKeyHandleInvalid: "CKR_KEY_HANDLE_INVALID", CKRKeyFunction: "CKR_KEY_FUNCTION_NOT_PERMITTED", CKRMechanismInvalid: "CKR_MECHANISM_INVALID",
	CKRPINIncorrect: "CKR_PIN_INCORRECT", CKRPINInvalid: "CKR_PIN_INVALID", CKRPINLenRange: "CKR_PIN_LEN_RANGE", CKRPINExpired: "CKR_PIN_EXPIRED",
	CKRPINLocked: "CKR_PIN_LOCKED", CKRTokenNotPresent: "CKR_TOKEN_NOT_PRESENT", CKRTokenNotRecognized: "CKR_TOKEN_NOT_RECOGNIZED",
	CKRTokenWriteProtected: "CKR_TOKEN_WRITE_PROTECTED", CKRUserAlreadyLoggedIn: "CKR_USER_ALREADY_LOGGED_IN",
	CKRUserNotLoggedIn: "CKR_USER_NOT_LOGGED_IN", CKRUserPINNotInitialized: "CKR_USER_PIN_NOT_INITIALIZED",
	CKRBufferTooSmall: "CKR_BUFFER_TOO_SMALL", CKRAlreadyInitialized: "CKR_CRYPTOKI_ALREADY_INITIALIZED",
}

// Error implements error.
func (r RV) Error() string {
	if name := rvNames[r]; name != "" {
		return name
	}
	return fmt.Sprintf("CKR 0x%x", uint64(r))
}
