package advisory

import (
	"encoding/hex"
	"strconv"
	"strings"
	"testing"

	"github.com/donjon-tee/donjon/attest/claims"
)

// A vector is claims and the state that a row must have on them.
type vector struct {
	id, state string
	claims    *claims.Claims
}

// snpClaims makes an SNP report's claims: processor (family-model-stepping in
// hexadecimal), SNP SPL and microcode SPL in all four TCBs, then changes.
func snpClaims(product, cpu string, spl, ucode uint8, change ...func(*claims.SNPClaims)) *claims.Claims {
	t := claims.SNPTCB{BootLoader: 4, SNP: spl, Microcode: ucode}
	s := &claims.SNPClaims{
		ReportVersion: 5, Product: product, GuestPolicy: 0x30000, PlatformInfo: 0x25,
		Reported: t, Committed: t, Current: t, Launch: t, CurrentVersion: "1.55.65", CommittedVersion: "1.55.65",
		LaunchMitigations: new(uint64), CurrentMitigations: new(uint64),
	}
	for i, p := range strings.Split(cpu, "-") {
		n, err := strconv.ParseUint(p, 16, 8)
		if err != nil {
			panic(err)
		}
		*[]*uint8{&s.Family, &s.Model, &s.Stepping}[i] = uint8(n)
	}
	for _, f := range change {
		f(s)
	}
	return &claims.Claims{TEE: claims.SNP, SNP: s}
}

func mitigations(launch, current uint64) func(*claims.SNPClaims) {
	return func(s *claims.SNPClaims) { s.LaunchMitigations, s.CurrentMitigations = &launch, &current }
}

func version3(s *claims.SNPClaims) {
	s.ReportVersion, s.LaunchMitigations, s.CurrentMitigations = 3, nil, nil
}

func version2(s *claims.SNPClaims) {
	version3(s)
	s.ReportVersion, s.Family, s.Model, s.Stepping = 2, 0, 0, 0
}

func policyBits(v uint64) func(*claims.SNPClaims) {
	return func(s *claims.SNPClaims) { s.GuestPolicy = v }
}

func info(v uint64) func(*claims.SNPClaims) {
	return func(s *claims.SNPClaims) { s.PlatformInfo = v }
}

func firmware(current, committed string) func(*claims.SNPClaims) {
	return func(s *claims.SNPClaims) { s.CurrentVersion, s.CommittedVersion = current, committed }
}

func launched(spl, ucode uint8) func(*claims.SNPClaims) {
	return func(s *claims.SNPClaims) { s.Launch.SNP, s.Launch.Microcode = spl, ucode }
}

// intelClaims makes SGX or TDX claims of a platform with the given SVNs: "c0=12 p=13
// t2=4 m1=11" are component 0, PCESVN, TDX component 2 and module 1's ISVSVN.
func intelClaims(tee, fmspc, svns string, listed ...string) *claims.Claims {
	f, err := hex.DecodeString(fmspc)
	if err != nil {
		panic(err)
	}
	c := &claims.Claims{TEE: tee, Intel: &claims.IntelPlatform{FMSPC: f, CompSVN: make([]uint8, 16), PCESVN: 13, Status: "UpToDate", AdvisoryIDs: listed}}
	tcb := make([]byte, 16)
	tcb[1] = 1
	for _, w := range strings.Fields(svns) {
		name, v, _ := strings.Cut(w, "=")
		n, err := strconv.ParseUint(v, 10, 8)
		if err != nil {
			panic(err)
		}
		switch name {
		case "c0", "c1", "c6":
			c.Intel.CompSVN[name[1]-'0'] = uint8(n)
		case "p":
			c.Intel.PCESVN = uint16(n)
		case "t2":
			tcb[2] = uint8(n)
		case "m1", "m3":
			tcb[0], tcb[1] = uint8(n), name[1]-'0'
		default:
			panic(name)
		}
	}
	if tee == claims.TDX {
		c.TDX = &claims.TDXClaims{TEETCBSVN: tcb}
	} else {
		c.SGX = &claims.SGXClaims{}
	}
	return c
}

// snpVectors: for each row what must be exposed, fixed where a fix is visible, and
// what cannot be told.
func snpVectors() []vector {
	const all = "19-01-1"
	old, hidden := policyBits(0x30000), policyBits(0x3030000)
	return []vector{
		{"AMD-SB-1004", Fixed, snpClaims(milan, all, 1, 1)},
		{"AMD-SB-1004", Exposed, snpClaims(milan, all, 1, 1, policyBits(0x10000))}, // no SNP policy

		{"AMD-SB-1032", CannotTell, snpClaims(milan, all, 29, 222)},

		{"AMD-SB-1033", Exposed, snpClaims(genoa, "19-11-1", 29, 99, old)},
		{"AMD-SB-1033", Exposed, snpClaims(turin, "1a-02-1", 4, 81, hidden, info(0x25))}, // wanted, not in force
		{"AMD-SB-1033", Fixed, snpClaims(turin, "1a-02-1", 4, 81, hidden, info(0x75))},

		{"AMD-SB-3005", Exposed, snpClaims(milan, "19-01-1", 9, 208)},
		{"AMD-SB-3005", CannotTell, snpClaims(milan, "19-01-1", 29, 222)}, // from memory: never fixed
		{"AMD-SB-3005", CannotTell, snpClaims(milan, "19-01-2", 29, 71)},
		{"AMD-SB-3005", CannotTell, snpClaims(milan, "19-01-1", 29, 222, version2)},

		{"AMD-SB-3007", CannotTell, snpClaims(genoa, "19-11-1", 29, 99)},
		{"AMD-SB-3008", CannotTell, snpClaims(turin, "1a-02-1", 9, 99)},

		{"AMD-SB-3015", Fixed, snpClaims(milan, all, 23, 219, firmware("1.55.22", "1.55.22"))},
		{"AMD-SB-3015", Fixed, snpClaims(genoa, "19-11-1", 23, 84, firmware("1.55.38", "1.55.38"))},
		{"AMD-SB-3015", Exposed, snpClaims(genoa, "19-11-1", 23, 84, firmware("1.55.37", "1.55.37"))},
		{"AMD-SB-3015", Exposed, snpClaims(genoa, "19-11-1", 23, 84, firmware("1.55.38", "1.55.37"))}, // can go back
		{"AMD-SB-3015", Exposed, snpClaims(milan, all, 29, 222, info(0x05))},                          // the check was not made
		{"AMD-SB-3015", CannotTell, snpClaims(milan, all, 29, 222, firmware("", ""))},
		{"AMD-SB-3015", CannotTell, snpClaims(milan, all, 29, 222, launched(20, 222))},

		{"AMD-SB-3016", Fixed, snpClaims(milan, all, 27, 222, mitigations(4, 4), firmware("1.55.35", "1.55.35"))},
		{"AMD-SB-3016", Fixed, snpClaims(genoa, "19-11-1", 27, 86, mitigations(7, 7), firmware("1.55.49", "1.55.49"))},
		{"AMD-SB-3016", Exposed, snpClaims(genoa, "19-11-1", 27, 86, mitigations(7, 3))},
		{"AMD-SB-3016", Exposed, snpClaims(genoa, "19-11-1", 26, 86, version3)},
		{"AMD-SB-3016", CannotTell, snpClaims(genoa, "19-11-1", 27, 86, version3)},

		{"AMD-SB-3019", Fixed, snpClaims(milan, "19-01-1", 24, 219)},
		{"AMD-SB-3019", Fixed, snpClaims(milan, "19-01-2", 24, 68)}, // another line, a lower number
		{"AMD-SB-3019", Fixed, snpClaims(genoa, "19-11-1", 23, 84)},
		{"AMD-SB-3019", Fixed, snpClaims(genoa, "19-11-2", 23, 79)},
		{"AMD-SB-3019", Fixed, snpClaims(genoa, "19-a0-2", 23, 25)},
		{"AMD-SB-3019", Exposed, snpClaims(milan, "19-01-1", 23, 219)},
		{"AMD-SB-3019", Exposed, snpClaims(milan, "19-01-1", 24, 218)},
		{"AMD-SB-3019", Exposed, snpClaims(genoa, "19-11-1", 23, 79)}, // enough for Genoa-X alone
		{"AMD-SB-3019", Exposed, snpClaims(milan, "19-01-1", 24, 219, launched(23, 219))},
		{"AMD-SB-3019", Exposed, snpClaims(milan, "19-01-1", 8, 115, version2)},
		{"AMD-SB-3019", CannotTell, snpClaims(milan, "19-01-1", 24, 219, version2)},
		{"AMD-SB-3019", CannotTell, snpClaims(milan, "19-01-1", 24, 219, func(s *claims.SNPClaims) { s.Launch = claims.SNPTCB{} })},

		{"AMD-SB-7033", CannotTell, snpClaims(turin, "1a-02-1", 4, 81)},
		{"AMD-SB-7014", CannotTell, snpClaims(genoa, "19-11-1", 29, 99)},
		{"AMD-SB-7029", CannotTell, snpClaims(genoa, "19-11-1", 29, 99)},

		{"AMD-SB-3020", Fixed, snpClaims(milan, all, 27, 222, mitigations(2, 2))},
		{"AMD-SB-3020", Fixed, snpClaims(genoa, "19-11-1", 27, 86, mitigations(1, 1))},
		{"AMD-SB-3020", Fixed, snpClaims(turin, "1a-02-1", 4, 80)},
		{"AMD-SB-3020", Exposed, snpClaims(milan, all, 27, 222, mitigations(1, 1))}, // Genoa's bit
		{"AMD-SB-3020", Exposed, snpClaims(milan, all, 27, 222, mitigations(0, 2))}, // launched before it
		{"AMD-SB-3020", Exposed, snpClaims(genoa, "19-11-1", 26, 86, version3)},
		{"AMD-SB-3020", Exposed, snpClaims(turin, "1a-02-1", 4, 79)},
		{"AMD-SB-3020", CannotTell, snpClaims(milan, all, 29, 222, version3)},
		{"AMD-SB-3020", CannotTell, snpClaims(turin, "1a-11-0", 4, 99)}, // Turin Dense: no number

		{"AMD-SB-3021", Fixed, snpClaims(turin, "1a-02-1", 4, 81, hidden, info(0x75))},
		{"AMD-SB-3021", Exposed, snpClaims(turin, "1a-02-1", 4, 81, policyBits(0x1030000), info(0x75))},
		{"AMD-SB-3021", Exposed, snpClaims(turin, "1a-02-1", 4, 81, hidden, info(0x65))},

		{"AMD-SB-3023", Fixed, snpClaims(milan, all, 27, 1)},
		{"AMD-SB-3023", Fixed, snpClaims(genoa, "19-a0-2", 27, 1)},
		{"AMD-SB-3023", Fixed, snpClaims(turin, "1a-11-0", 4, 1)},
		{"AMD-SB-3023", Exposed, snpClaims(milan, all, 26, 222, mitigations(8, 8))}, // bit 3 is another issue's
		{"AMD-SB-3023", Exposed, snpClaims(turin, "1a-02-1", 3, 81)},
		{"AMD-SB-3023", CannotTell, snpClaims("", all, 27, 222)},
		{"AMD-SB-3023", CannotTell, snpClaims(turin, "1a-02-1", 4, 81, func(s *claims.SNPClaims) { s.Launch = claims.SNPTCB{FMC: new(uint8)} })},

		{"CVE-2025-38560", CannotTell, snpClaims(milan, all, 29, 222)},
		{"AMD-SB-3024", CannotTell, snpClaims(milan, all, 29, 222)},

		{"AMD-SB-3027", Fixed, snpClaims(genoa, "19-11-1", 1, 86)},
		{"AMD-SB-3027", Fixed, snpClaims(genoa, "19-11-2", 1, 81)},
		{"AMD-SB-3027", Fixed, snpClaims(turin, "1a-02-1", 1, 81)},
		{"AMD-SB-3027", Fixed, snpClaims(milan, all, 1, 1, policyBits(0x20000))}, // no sibling thread
		{"AMD-SB-3027", Exposed, snpClaims(genoa, "19-11-1", 29, 85)},
		{"AMD-SB-3027", Exposed, snpClaims(turin, "1a-02-1", 4, 80)},
		{"AMD-SB-3027", CannotTell, snpClaims(genoa, "19-a0-2", 29, 30)},
		{"AMD-SB-3027", CannotTell, snpClaims(milan, all, 29, 222)},

		{"AMD-SB-3030", Fixed, snpClaims(milan, all, 29, 222, mitigations(16, 16))},
		{"AMD-SB-3030", Exposed, snpClaims(milan, all, 28, 222, mitigations(16, 16))},
		{"AMD-SB-3030", Exposed, snpClaims(milan, all, 29, 222, mitigations(8, 8))},
		{"AMD-SB-3030", CannotTell, snpClaims(milan, all, 29, 222, version3)},
		{"AMD-SB-3030", CannotTell, snpClaims(genoa, "19-11-1", 29, 90, mitigations(16, 16))},

		{"AMD-SB-3034", Fixed, snpClaims(milan, all, 1, 1, mitigations(16, 16))},
		{"AMD-SB-3034", Exposed, snpClaims(milan, all, 29, 222)},
		{"AMD-SB-3034", CannotTell, snpClaims(milan, all, 29, 222, version3)},
		{"AMD-SB-3034", CannotTell, snpClaims(turin, "1a-02-1", 9, 99, mitigations(63, 63))},

		{"CVE-2025-54502", CannotTell, snpClaims(milan, all, 29, 222)},
		{"AMD-SB-3039", CannotTell, snpClaims(turin, "1a-02-1", 9, 99)},
		{"MilanLaunch", Exposed, snpClaims(milan, all, 255, 255, mitigations(^uint64(0), ^uint64(0)))},
		{"MilanLaunch", CannotTell, snpClaims("", all, 29, 222)},
		{"CVE-2026-31591", CannotTell, snpClaims(genoa, "19-11-1", 29, 99)},
		{"BadAML", CannotTell, snpClaims(genoa, "19-11-1", 29, 99)},

		{"WireTap", CannotTell, intelClaims(claims.SGX, "00606a000000", "c0=16")},
		{"TEE.fail", CannotTell, snpClaims(turin, "1a-02-1", 4, 81)},
		{"Identity-Crisis", Exposed, keyed(snpClaims(turin, "1a-02-1", 4, 81), false)},
		{"Identity-Crisis", CannotTell, keyed(snpClaims(turin, "1a-02-1", 4, 81), true)},
		{"Intra-handshake.fail", Exposed, keyed(intelClaims(claims.TDX, "b0c06f000000", ""), false)},
		{"Intra-handshake.fail", CannotTell, intelClaims(claims.TDX, "b0c06f000000", "")},
		{"CVE-2026-33697", CannotTell, snpClaims(turin, "1a-02-1", 4, 81)},
		{"CVE-2021-20487", CannotTell, &claims.Claims{TEE: "pef"}},
		{"CVE-2020-4788", CannotTell, &claims.Claims{TEE: "pef"}},
	}
}

// keyed binds a key, as a certificate does, and a nonce where wanted.
func keyed(c *claims.Claims, nonce bool) *claims.Claims {
	c.Key = make([]byte, 32)
	if nonce {
		c.Nonce = []byte{1}
	}
	return c
}

// intelLevels: row, TEE, FMSPC, SVNs at which it is fixed, SVNs at which it is not.
// The numbers are those of Intel's TCB info, written down a second time.
const intelLevels = `
INTEL-SA-00106 sgx 00606A000000 p=10 | p=5
INTEL-SA-00106 sgx 00A067110000 p=10 | p=5
INTEL-SA-00115 sgx 00606A000000 p=10 | p=5
INTEL-SA-00115 sgx 00A067110000 p=10 | p=5
INTEL-SA-00135 sgx 00606A000000 p=10 | p=5
INTEL-SA-00135 sgx 00A067110000 p=10 | p=5
INTEL-SA-00161 sgx 00906ED50000 c0=20 | c0=19
INTEL-SA-00203 sgx 00606A000000 p=10 | p=5
INTEL-SA-00203 sgx 00A067110000 p=10 | p=5
INTEL-SA-00203 sgx 00906ED50000 p=7 | p=6
INTEL-SA-00220 sgx 00606A000000 p=10 | p=5
INTEL-SA-00220 sgx 00A067110000 p=10 | p=5
INTEL-SA-00220 sgx 00906ED50000 c0=3 | c0=2
INTEL-SA-00233 sgx 00606A000000 p=10 | p=5
INTEL-SA-00233 sgx 00A067110000 p=10 | p=5
INTEL-SA-00233 sgx 00906ED50000 c0=2 | c0=1
INTEL-SA-00270 sgx 00606A000000 p=10 | p=5
INTEL-SA-00270 sgx 00A067110000 p=10 | p=5
INTEL-SA-00270 sgx 00906ED50000 c0=3 | c0=2
INTEL-SA-00289 sgx 00A067110000 c0=11 c6=12 | c0=11 c6=0
INTEL-SA-00289 sgx 00A067110000 c0=12 c6=12 | c0=10 c6=12
INTEL-SA-00293 sgx 00606A000000 p=10 | p=5
INTEL-SA-00293 sgx 00A067110000 p=10 | p=5
INTEL-SA-00293 sgx 00906ED50000 c0=3 | c0=2
INTEL-SA-00320 sgx 00606A000000 p=10 | p=5
INTEL-SA-00320 sgx 00A067110000 p=10 | p=5
INTEL-SA-00320 sgx 00906ED50000 c0=15 | c0=14
INTEL-SA-00329 sgx 00606A000000 p=10 | p=5
INTEL-SA-00329 sgx 00A067110000 p=10 | p=5
INTEL-SA-00329 sgx 00906ED50000 c0=15 | c0=14
INTEL-SA-00381 sgx 00606A000000 p=10 | p=5
INTEL-SA-00381 sgx 00A067110000 p=10 | p=5
INTEL-SA-00381 sgx 00906ED50000 c0=16 | c0=15
INTEL-SA-00389 sgx 00606A000000 p=10 | p=5
INTEL-SA-00389 sgx 00A067110000 p=10 | p=5
INTEL-SA-00389 sgx 00906ED50000 c0=16 | c0=15
INTEL-SA-00477 sgx 00606A000000 p=11 | p=10
INTEL-SA-00477 sgx 00A067110000 p=11 c6=4 | p=10 c6=4
INTEL-SA-00477 sgx 00906ED50000 p=11 c6=1 | p=10 c6=1
INTEL-SA-00586 sgx 00606A000000 c0=7 | c0=4
INTEL-SA-00614 sgx 00606A000000 c0=7 | c0=4
INTEL-SA-00614 sgx 00A067110000 c0=9 | c0=5
INTEL-SA-00614 sgx 00906ED50000 c0=20 | c0=19
INTEL-SA-00617 sgx 00A067110000 c0=9 | c0=5
INTEL-SA-00617 sgx 00906ED50000 c0=20 | c0=19
INTEL-SA-00657 sgx 00A067110000 c0=10 | c0=9
INTEL-SA-00657 sgx 00606A000000 c0=16 c6=1 | c0=15 c6=1
INTEL-SA-00657 sgx 00606A000000 c0=17 c6=1 | c0=16 c6=0
INTEL-SA-00767 sgx 00A067110000 c0=10 | c0=9
INTEL-SA-00767 sgx 00606A000000 c0=16 c6=1 | c0=15 c6=1
INTEL-SA-00730 sgx 00606A000000 c0=11 | c0=7
INTEL-SA-00738 sgx 00606A000000 c0=11 | c0=7
INTEL-SA-00828 sgx 00906ED50000 c0=21 | c0=20
INTEL-SA-00828 sgx 00A067110000 c0=11 | c0=10
INTEL-SA-00828 sgx 00606A000000 c0=12 | c0=11
INTEL-SA-00837 sgx 00606A000000 c0=12 | c0=11
INTEL-SA-00837 sgx 90806F000000 c0=6 | c0=5
INTEL-SA-00837 tdx B0C06F000000 p=11 | p=5
INTEL-SA-00837 tdx 90C06F000000 p=13 | p=5
INTEL-SA-00960 sgx 00606A000000 c0=14 | c0=12
INTEL-SA-00960 sgx 90806F000000 c0=7 | c0=6
INTEL-SA-00982 sgx 90806F000000 c0=7 | c0=6
INTEL-SA-00986 sgx 90806F000000 c0=7 | c0=6
INTEL-SA-01079 sgx 00606A000000 c0=15 | c0=14
INTEL-SA-01079 sgx 90806F000000 c0=8 | c0=7
INTEL-SA-01079 tdx B0C06F000000 c0=3 | c0=2
INTEL-SA-01079 tdx 90C06F000000 c0=3 | c0=2
INTEL-SA-01103 sgx 00606A000000 c0=15 | c0=14
INTEL-SA-01103 sgx 90806F000000 c0=8 | c0=7
INTEL-SA-01103 tdx B0C06F000000 c0=3 | c0=2
INTEL-SA-01103 tdx 90C06F000000 c0=3 | c0=2
INTEL-SA-01111 sgx 90806F000000 c0=8 | c0=7
INTEL-SA-01111 tdx 50806F000000 c0=8 | c0=7
INTEL-SA-01111 tdx B0C06F000000 c0=3 | c0=2
INTEL-SA-01111 tdx 90C06F000000 c0=3 | c0=2
INTEL-SA-01153 sgx 00606A000000 c0=16 | c0=15
INTEL-SA-01153 sgx 00906ED50000 c0=22 | c0=21
INTEL-SA-01010 tdx 50806F000000 c0=8 | c0=7
INTEL-SA-01036 tdx 50806F000000 c0=8 m1=6 | c0=8 m1=5
INTEL-SA-01036 tdx B0C06F000000 c0=3 m1=6 | c0=3 m1=4
INTEL-SA-01036 tdx B0C06F000000 c0=3 m3=3 | c0=2 m3=3
INTEL-SA-01036 tdx 90C06F000000 c0=3 m1=6 | c0=2 m1=6
INTEL-SA-01076 tdx 50806F000000 c0=8 t2=8 | c0=8 t2=7
INTEL-SA-01099 tdx 50806F000000 c0=8 m1=6 | c0=8 m1=5
INTEL-SA-01099 tdx B0C06F000000 c0=3 m1=6 | c0=3 m1=4
INTEL-SA-01099 tdx B0C06F000000 c0=3 m3=3 | c0=2 m3=3
INTEL-SA-01099 tdx 90C06F000000 c0=3 m1=6 | c0=3 m1=5
INTEL-SA-01192 tdx B0C06F000000 t2=4 m1=11 | t2=4 m1=6
INTEL-SA-01192 tdx B0C06F000000 t2=4 m3=3 | t2=3 m3=3
INTEL-SA-01245 tdx B0C06F000000 t2=4 m1=11 | t2=4 m1=6
INTEL-SA-01245 tdx B0C06F000000 t2=4 m3=5 | t2=4 m3=3
INTEL-SA-01312 tdx B0C06F000000 t2=4 m1=11 | t2=3 m1=11
INTEL-SA-01312 tdx B0C06F000000 t2=4 m3=5 | t2=4 m3=3
INTEL-SA-01313 tdx B0C06F000000 t2=4 | t2=3
`

func intelVectors(t *testing.T) []vector {
	t.Helper()
	var out []vector
	for _, line := range strings.Split(strings.TrimSpace(intelLevels), "\n") {
		head, exposed, ok := strings.Cut(line, " | ")
		f := strings.SplitN(head, " ", 4)
		if !ok || len(f) != 4 {
			t.Fatalf("vector %q", line)
		}
		without := intelClaims(f[1], f[2], f[3])
		without.Intel.Status = "" // no TCB info at hand
		out = append(out,
			vector{f[0], Fixed, intelClaims(f[1], f[2], f[3])},
			vector{f[0], Exposed, intelClaims(f[1], f[2], exposed)},
			vector{f[0], Exposed, intelClaims(f[1], f[2], f[3], f[0])}, // Intel's list says otherwise
			vector{f[0], CannotTell, without},
			vector{f[0], CannotTell, intelClaims(f[1], "ffffffffffff", f[3])})
	}
	return out
}
