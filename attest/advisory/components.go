package advisory

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/donjon-tee/donjon/attest/claims"
)

// Component names a part of the evidence that a fix can be read from.
type Component string

// Components of SEV-SNP reports (AMD 56860). The SPLs of a TCB_VERSION must reach
// the value in the reported, committed, current and launch TCB alike: a guest that
// was launched under old firmware stays what that firmware made it, and a report
// signed for an old TCB could be an old firmware's. The mitigation vectors must hold
// the bit at launch and now.
const (
	SNPSPL       Component = "snp.tcb.snp"
	Microcode    Component = "snp.tcb.microcode"
	Firmware     Component = "snp.firmware"      // major.minor.build, current and committed
	Mitigation   Component = "snp.mitigation"    // a bit of both vectors; report version 5
	PlatformInfo Component = "snp.platform_info" // a bit of PLATFORM_INFO
	GuestPolicy  Component = "snp.policy"        // a bit of the guest policy
)

// Components of SGX and TDX evidence: the TCB components of the PCK certificate, its
// PCESVN, the SVNs of TEE_TCB_SVN, and the ISVSVN of a TDX module by its major
// version (Intel PCS API, TCB info version 3).
const (
	SGXComp0 Component = "sgx.component0"
	SGXComp1 Component = "sgx.component1"
	SGXComp6 Component = "sgx.component6"
	PCESVN   Component = "sgx.pcesvn"
	TDXComp2 Component = "tdx.component2"
	Module01 Component = "tdx.module01"
	Module03 Component = "tdx.module03"
)

func (c Component) words() string {
	switch c {
	case SNPSPL:
		return "SNP SPL"
	case Microcode:
		return "microcode SPL"
	case Firmware:
		return "SEV firmware"
	case Mitigation:
		return "mitigation vectors"
	case PlatformInfo:
		return "PLATFORM_INFO"
	case GuestPolicy:
		return "guest policy"
	case PCESVN:
		return "PCESVN"
	case Module01:
		return "TDX module 1 ISVSVN"
	case Module03:
		return "TDX module 3 ISVSVN"
	case SGXComp0, SGXComp1, SGXComp6:
		return "SGX TCB component " + string(c[len(c)-1:])
	case TDXComp2:
		return "TDX TCB component 2"
	}
	return string(c)
}

// States of a condition and of a row, as verdict.Advisory has them.
const (
	Fixed      = "fixed"
	Exposed    = "exposed"
	CannotTell = "cannot_tell"
)

// value is a number or a version of up to three parts, each under 2^16.
func value(s string) (uint64, error) {
	var v uint64
	parts := strings.Split(s, ".")
	if len(parts) == 2 || len(parts) > 3 {
		return 0, fmt.Errorf("found %q, wanted a number or major.minor.build", s)
	}
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("found %q, wanted a number or major.minor.build", s)
		}
		v = v<<16 | n
	}
	return v, nil
}

// judge looks at one condition. found says what the evidence holds.
func (c Condition) judge(k *claims.Claims) (state, found string) {
	want, err := value(c.Value)
	if err != nil {
		return CannotTell, err.Error() // no row of the table: a test reads them all
	}
	if k.SNP != nil {
		return c.judgeSNP(k.SNP, want)
	}
	if k.Intel != nil {
		return c.judgeIntel(k, want)
	}
	return CannotTell, "the evidence does not hold it"
}

func (c Condition) judgeSNP(s *claims.SNPClaims, want uint64) (state, found string) {
	switch c.Component {
	case SNPSPL:
		return views(s, want, func(t claims.SNPTCB) uint8 { return t.SNP })
	case Microcode:
		return views(s, want, func(t claims.SNPTCB) uint8 { return t.Microcode })
	case Firmware:
		state = Fixed
		for _, v := range [...]string{s.CurrentVersion, s.CommittedVersion} {
			n, err := value(v)
			if err != nil {
				return CannotTell, "the report names no firmware version"
			}
			if n < want {
				state = Exposed
			}
		}
		found = "current " + s.CurrentVersion + ", committed " + s.CommittedVersion
		// What the firmware was at launch shows in the SPLs alone.
		if state == Fixed && (s.Launch.SNP < s.Current.SNP || unset(s.Launch)) {
			return CannotTell, found + ", but launched under other firmware"
		}
		return state, found
	case Mitigation:
		if s.LaunchMitigations == nil || s.CurrentMitigations == nil {
			return CannotTell, fmt.Sprintf("a report of version %d has no mitigation vectors", s.ReportVersion)
		}
		state = Fixed
		if (*s.LaunchMitigations&*s.CurrentMitigations)>>want&1 == 0 {
			state = Exposed
		}
		return state, fmt.Sprintf("launch %#x, current %#x", *s.LaunchMitigations, *s.CurrentMitigations)
	case PlatformInfo:
		return bit(s.PlatformInfo, want, c.Op)
	case GuestPolicy:
		return bit(s.GuestPolicy, want, c.Op)
	}
	return CannotTell, "the evidence does not hold it"
}

// views compares one SPL in the four TCB versions of a report.
func views(s *claims.SNPClaims, want uint64, part func(claims.SNPTCB) uint8) (state, found string) {
	state = Fixed
	for _, t := range [...]claims.SNPTCB{s.Reported, s.Committed, s.Current} {
		if uint64(part(t)) < want {
			state = Exposed
		}
	}
	found = fmt.Sprintf("reported %d, committed %d, current %d", part(s.Reported), part(s.Committed), part(s.Current))
	if unset(s.Launch) {
		if state == Fixed {
			state = CannotTell
		}
		return state, found + ", no launch TCB"
	}
	if uint64(part(s.Launch)) < want {
		state = Exposed
	}
	return state, found + fmt.Sprintf(", launch %d", part(s.Launch))
}

// unset says that a TCB is all zero: firmware that does not state it.
func unset(t claims.SNPTCB) bool {
	return (t.FMC == nil || *t.FMC == 0) && t.BootLoader == 0 && t.TEE == 0 && t.SNP == 0 && t.Microcode == 0
}

func bit(v, n uint64, op Op) (state, found string) {
	set := v>>n&1 == 1
	state = Exposed
	if set == (op == Set) {
		state = Fixed
	}
	return state, fmt.Sprintf("%#x", v)
}

func (c Condition) judgeIntel(k *claims.Claims, want uint64) (state, found string) {
	var have uint64
	switch c.Component {
	case SGXComp0, SGXComp1, SGXComp6:
		i := int(c.Component[len(c.Component)-1] - '0')
		if len(k.Intel.CompSVN) <= i {
			return CannotTell, "no TCB components of the platform at hand"
		}
		have = uint64(k.Intel.CompSVN[i])
	case PCESVN:
		if len(k.Intel.CompSVN) == 0 {
			return CannotTell, "no TCB of the platform at hand"
		}
		have = uint64(k.Intel.PCESVN)
	case TDXComp2:
		v, ok := tdxSVN(k.TDX, 2)
		if !ok {
			return CannotTell, "no TEE_TCB_SVN in the evidence"
		}
		have = v
	case Module01, Module03:
		major, ok := tdxSVN(k.TDX, 1)
		if !ok {
			return CannotTell, "no TEE_TCB_SVN in the evidence"
		}
		if want := uint64(c.Component[len(c.Component)-1] - '0'); major != want {
			return CannotTell, fmt.Sprintf("TDX module %d, wanted to see module %d", major, want)
		}
		have, _ = tdxSVN(k.TDX, 0)
	default:
		return CannotTell, "the evidence does not hold it"
	}
	state = Fixed
	if have < want {
		state = Exposed
	}
	return state, strconv.FormatUint(have, 10)
}

// tdxSVN is byte i of TEE_TCB_SVN, the lower of that at the TD's start and that of
// now where the body has both (TDX 1.5, TEE_TCB_SVN_2). Two module majors cannot be
// compared: the evidence then shows none.
func tdxSVN(t *claims.TDXClaims, i int) (uint64, bool) {
	if t == nil || len(t.TEETCBSVN) != 16 {
		return 0, false
	}
	v := t.TEETCBSVN[i]
	if len(t.TEETCBSVN2) == 16 {
		if t.TEETCBSVN[1] != t.TEETCBSVN2[1] {
			return 0, false
		}
		v = min(v, t.TEETCBSVN2[i])
	}
	return uint64(v), true
}
