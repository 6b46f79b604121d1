package dcap

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Statuses of a TCB level, in Intel's spelling (PCS, "Get TCB Info"), with what
// only a verifier can conclude. Others may come and are kept as they stand.
const (
	UpToDate                             = "UpToDate"
	SWHardeningNeeded                    = "SWHardeningNeeded"
	ConfigurationNeeded                  = "ConfigurationNeeded"
	ConfigurationAndSWHardeningNeeded    = "ConfigurationAndSWHardeningNeeded"
	OutOfDate                            = "OutOfDate"
	OutOfDateConfigurationNeeded         = "OutOfDateConfigurationNeeded"
	Revoked                              = "Revoked"
	TDRelaunchAdvised                    = "TDRelaunchAdvised"
	TDRelaunchAdvisedConfigurationNeeded = "TDRelaunchAdvisedConfigurationNeeded"
	// NotSupported: no level of the TCB info fits.
	NotSupported = "NotSupported"
)

// tcbInfo is a TCB info of version 3.
type tcbInfo struct {
	ID      string `json:"id"` // SGX or TDX
	Version int    `json:"version"`
	window
	FMSPC      hexN           `json:"fmspc"`
	PCEID      hexN           `json:"pceId"`
	TCBType    *int           `json:"tcbType"`
	Evaluation *uint32        `json:"tcbEvaluationDataNumber"`
	Module     *moduleSigner  `json:"tdxModule"`
	Modules    []moduleEntry  `json:"tdxModuleIdentities"`
	Levels     []platformTCBs `json:"tcbLevels"`
}

type moduleSigner struct {
	MRSigner   hexN `json:"mrsigner"`
	Attributes hexN `json:"attributes"`
	Mask       hexN `json:"attributesMask"`
}

type moduleEntry struct {
	ID string `json:"id"`
	moduleSigner
	Levels []svnLevel `json:"tcbLevels"`
}

// judged is what a level says about those who reach it.
type judged struct {
	Date       time.Time `json:"tcbDate"`
	Status     string    `json:"tcbStatus"`
	Advisories []string  `json:"advisoryIDs"`
}

// svnLevel is a level of a module or of a quoting enclave.
type svnLevel struct {
	TCB struct {
		SVN *uint16 `json:"isvsvn"`
	} `json:"tcb"`
	judged
}

type platformTCBs struct {
	TCB struct {
		SGX    []component `json:"sgxtcbcomponents"`
		PCESVN *uint16     `json:"pcesvn"`
		TDX    []component `json:"tdxtcbcomponents"`
	} `json:"tcb"`
	judged
}

type component struct {
	SVN      *uint8 `json:"svn"`
	Category string `json:"category"`
	Type     string `json:"type"`
}

// parseTCBInfo reads the signed part of a TCB info.
func parseTCBInfo(body []byte) (*tcbInfo, error) {
	t := &tcbInfo{}
	if err := decode(body, t); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	return t, nil
}

func (t *tcbInfo) check() error {
	switch {
	case t.ID != "SGX" && t.ID != "TDX":
		return fmt.Errorf("found id %q, wanted SGX or TDX", t.ID)
	case t.Version != 3:
		return fmt.Errorf("found version %d, wanted 3", t.Version)
	case t.TCBType == nil || *t.TCBType != 0:
		return errors.New("tcbType is missing or not 0: how to compare is not known")
	case t.Evaluation == nil:
		return errors.New("tcbEvaluationDataNumber is missing")
	case len(t.Levels) == 0 || len(t.Levels) > maxLevels || len(t.Modules) > 64:
		return fmt.Errorf("found %d levels and %d module identities, wanted 1 to %d and at most 64", len(t.Levels), len(t.Modules), maxLevels)
	}
	tdx := t.ID == "TDX"
	if tdx && t.Module == nil {
		return errors.New("tdxModule is missing")
	}
	err := errors.Join(t.window.check(), t.FMSPC.want(6, "fmspc"), t.PCEID.want(2, "pceId"))
	if t.Module != nil {
		err = errors.Join(err, t.Module.check())
	}
	seen := map[string]bool{}
	for i := range t.Modules {
		m := &t.Modules[i]
		if m.ID = strings.ToUpper(m.ID); seen[m.ID] {
			return fmt.Errorf("the module identity %q stands twice", m.ID)
		}
		seen[m.ID] = true
		err = errors.Join(err, m.check(), checkLevels(m.Levels))
	}
	for i := range t.Levels {
		if e := t.Levels[i].check(tdx); e != nil {
			return fmt.Errorf("level %d: %w", i, e)
		}
	}
	return err
}

func (m *moduleSigner) check() error {
	return errors.Join(m.MRSigner.want(48, "mrsigner"), m.Attributes.want(8, "attributes"), m.Mask.want(8, "attributesMask"))
}

func (l *platformTCBs) check(tdx bool) error {
	if l.TCB.PCESVN == nil {
		return errors.New("pcesvn is missing")
	}
	if len(l.TCB.SGX) != 16 || tdx && len(l.TCB.TDX) != 16 {
		return fmt.Errorf("found %d SGX and %d TDX components, wanted 16", len(l.TCB.SGX), len(l.TCB.TDX))
	}
	for _, list := range [][]component{l.TCB.SGX, l.TCB.TDX} {
		for i, c := range list {
			if c.SVN == nil {
				return fmt.Errorf("component %d has no svn", i)
			}
			if len(c.Type) > 64 || len(c.Category) > 64 {
				return fmt.Errorf("component %d has a name of more than 64 bytes", i)
			}
		}
	}
	return l.judged.check()
}

func (j *judged) check() error {
	if j.Status == "" || len(j.Status) > 64 || j.Date.IsZero() {
		return errors.New("tcbStatus or tcbDate is missing")
	}
	if j.Status == NotSupported {
		return errors.New("tcbStatus NotSupported is a verifier's word")
	}
	if len(j.Advisories) > maxAdvisory {
		return fmt.Errorf("found %d advisories, at most %d are taken", len(j.Advisories), maxAdvisory)
	}
	for _, a := range j.Advisories {
		if a == "" || len(a) > 64 {
			return errors.New("an advisory id of 0 or more than 64 bytes")
		}
	}
	return nil
}

func checkLevels(list []svnLevel) error {
	if len(list) == 0 || len(list) > maxLevels {
		return fmt.Errorf("found %d levels, wanted 1 to %d", len(list), maxLevels)
	}
	for i := range list {
		if list[i].TCB.SVN == nil {
			return fmt.Errorf("level %d: isvsvn is missing", i)
		}
		if err := list[i].judged.check(); err != nil {
			return fmt.Errorf("level %d: %w", i, err)
		}
	}
	return nil
}
