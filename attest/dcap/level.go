package dcap

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// standing is where a platform stands: a status, and what the levels that fit say.
type standing struct {
	platform, module, status string
	date                     time.Time // the earliest of the levels that fit
	advisories               []string
	why                      string // where the status is NotSupported: what falls short
}

func (s *standing) add(j *judged) {
	if s.date.IsZero() || j.Date.Before(s.date) {
		s.date = j.Date
	}
	s.advisories = append(s.advisories, j.Advisories...)
}

// stand compares a platform with a TCB info. tee is TEE_TCB_SVN for TDX, nil for
// SGX. Levels come best first; the first that the platform reaches is its own (PCS,
// "Get TCB Info", tcbLevels).
func (t *tcbInfo) stand(p *Platform, tee []byte) standing {
	var s standing
	level, why := t.level(p, tee)
	if level == nil {
		return standing{platform: NotSupported, status: NotSupported, why: why}
	}
	s.platform, s.status = level.Status, level.Status
	s.add(&level.judged)
	if tee == nil || tee[1] == 0 {
		return s // SGX, or a TDX 1.0 module: the level holds its SVN
	}
	name := moduleID(tee)
	m := t.moduleEntry(name)
	if m == nil {
		s.module, s.status, s.why = NotSupported, NotSupported, "the TCB info has no TDX module identity "+name
		return s
	}
	j := reached(m.Levels, uint16(tee[0]))
	if j == nil {
		s.module, s.status = NotSupported, NotSupported
		s.why = fmt.Sprintf("the TDX module's SVN (TEE_TCB_SVN[0]) is %d, the lowest level of %s wants %d", tee[0], name, lowest(m.Levels))
		return s
	}
	s.module = j.Status
	s.add(j)
	s.status = converge(s.platform, s.module)
	return s
}

// level gives the level that the platform reaches, or what falls short of the one
// it comes closest to.
func (t *tcbInfo) level(p *Platform, tee []byte) (*platformTCBs, string) {
	var best []string
	for i := range t.Levels {
		l := &t.Levels[i]
		if l.reachedBy(p, tee) {
			return l, ""
		}
		if short := l.short(p, tee); best == nil || len(short) <= len(best) {
			best = short
		}
	}
	return nil, strings.Join(best, ", ")
}

// teeFrom is the first component of TEE_TCB_SVN that a level is compared with.
// The first two say the module's SVN and version; where there is a version, the
// module has an identity of its own (PCS, "Get TCB Info", tdxModuleIdentities).
func teeFrom(tee []byte) int {
	if tee[1] > 0 {
		return 2
	}
	return 0
}

func (l *platformTCBs) reachedBy(p *Platform, tee []byte) bool {
	if p.PCESVN < *l.TCB.PCESVN {
		return false
	}
	for i, c := range l.TCB.SGX {
		if p.CompSVN[i] < *c.SVN {
			return false
		}
	}
	if tee == nil {
		return true
	}
	for i := teeFrom(tee); i < 16; i++ {
		if tee[i] < *l.TCB.TDX[i].SVN {
			return false
		}
	}
	return true
}

// short names every component that is under the level.
func (l *platformTCBs) short(p *Platform, tee []byte) []string {
	var out []string
	add := func(kind string, i int, c component, found uint8) {
		if found < *c.SVN {
			name := c.Type
			if name == "" {
				name = "component"
			}
			out = append(out, fmt.Sprintf("%s SVN (%s[%d]) is %d, wanted at least %d", name, kind, i, found, *c.SVN))
		}
	}
	for i, c := range l.TCB.SGX {
		add("sgxtcbcomponents", i, c, p.CompSVN[i])
	}
	if tee != nil {
		for i := teeFrom(tee); i < 16; i++ {
			add("tdxtcbcomponents", i, l.TCB.TDX[i], tee[i])
		}
	}
	if p.PCESVN < *l.TCB.PCESVN {
		out = append(out, fmt.Sprintf("PCESVN is %d, wanted at least %d", p.PCESVN, *l.TCB.PCESVN))
	}
	return out
}

// moduleID is the name of a TDX module's identity: TDX_ and the module's version,
// TEE_TCB_SVN[1], as two hexadecimal digits.
func moduleID(tee []byte) string { return fmt.Sprintf("TDX_%02X", tee[1]) }

func (t *tcbInfo) moduleEntry(id string) *moduleEntry {
	for i := range t.Modules {
		if t.Modules[i].ID == id {
			return &t.Modules[i]
		}
	}
	return nil
}

// moduleDiffers says what of the TDX module is not as Intel names it; "" where all
// is.
func (t *tcbInfo) moduleDiffers(td *TDReport) string {
	m, name := t.Module, "tdxModule"
	if td.TEETCBSVN[1] > 0 {
		name = moduleID(td.TEETCBSVN)
		e := t.moduleEntry(name)
		if e == nil {
			return "the TCB info has no TDX module identity " + name
		}
		m = &e.moduleSigner
	}
	var out []string
	if !bytes.Equal(td.MRSignerSEAM, m.MRSigner) {
		out = append(out, fmt.Sprintf("MRSIGNERSEAM %x where %s says %x", td.MRSignerSEAM, name, []byte(m.MRSigner)))
	}
	if !maskedEqual(td.SEAMAttributes, m.Attributes, m.Mask) {
		out = append(out, fmt.Sprintf("SEAMATTRIBUTES %x where %s says %x", td.SEAMAttributes, name, []byte(m.Attributes)))
	}
	return strings.Join(out, ", ")
}

// reached gives the first level whose SVN is not above svn.
func reached(levels []svnLevel, svn uint16) *judged {
	for i := range levels {
		if *levels[i].TCB.SVN <= svn {
			return &levels[i].judged
		}
	}
	return nil
}

func lowest(levels []svnLevel) uint16 {
	low := uint16(0xffff)
	for i := range levels {
		low = min(low, *levels[i].TCB.SVN)
	}
	return low
}

// converge is the status of a platform with a part (TDX module, quoting enclave)
// whose status is its own. It follows QVL: a part that is out of date makes a good
// platform out of date, and never the other way round. A status that is not known
// comes through, so that nobody accepts it.
func converge(platform, part string) string {
	switch {
	case part == Revoked || platform == Revoked:
		return Revoked
	case part == NotSupported || platform == NotSupported:
		return NotSupported
	case part == UpToDate:
		return platform
	case part != OutOfDate && (platform == UpToDate || platform == part):
		return part
	case part != OutOfDate: // Intel gives parts no such status; it must not make a bad platform better
		return platform + " with a part " + part
	}
	switch platform {
	case UpToDate, SWHardeningNeeded, TDRelaunchAdvised:
		return OutOfDate
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded, TDRelaunchAdvisedConfigurationNeeded:
		return OutOfDateConfigurationNeeded
	}
	return platform
}

// relaunch is the status of a TD that was launched under one TCB (TEE_TCB_SVN) and
// runs on another (TEE_TCB_SVN2), the TDX module having been updated under it: where
// the launch is out of date and the machine is not, starting the TD anew helps. It
// follows QVL, but what the TD runs on now never makes the status better than its own.
func relaunch(launch, current string) string {
	if current == NotSupported || current == Revoked {
		return current
	}
	config := launch == OutOfDateConfigurationNeeded
	if launch != OutOfDate && !config {
		switch {
		case current == OutOfDate:
			return converge(launch, current)
		case launch == UpToDate, current == OutOfDateConfigurationNeeded:
			return current
		}
		return launch
	}
	switch current {
	case UpToDate, SWHardeningNeeded:
	case ConfigurationNeeded, ConfigurationAndSWHardeningNeeded:
		config = true
	default:
		return launch
	}
	if config {
		return TDRelaunchAdvisedConfigurationNeeded
	}
	return TDRelaunchAdvised
}

// known sorts advisories, each once.
func known(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
