package main

import (
	"fmt"

	"github.com/donjon-tee/donjon/workload"
	"github.com/donjon-tee/donjon/workload/signature"
)

// signatureReport is a signature beside a workload.
type signatureReport struct {
	Name     string `json:"name"`
	Version  uint64 `json:"version"`
	Signer   string `json:"signer"` // key id
	Workload string `json:"workload"`
	// Verified says that the signer's key made it, Matches that it is over the workload
	// at hand. Whether the signer is to be trusted is not said here.
	Verified bool `json:"verified"`
	Matches  bool `json:"matches"`
}

func reportSignature(e *signature.Envelope, digest workload.Digest) signatureReport {
	return signatureReport{e.Name, e.Version, e.Signer.ID().String(), e.Workload.String(), e.Verify() == nil, e.Workload == digest}
}

func (s signatureReport) String() string {
	what := fmt.Sprintf("%s version %d, ", s.Name, s.Version)
	switch {
	case !s.Verified:
		return what + "NOT verified: the key " + s.Signer + " did not make it"
	case !s.Matches:
		return what + "NOT of this workload: " + s.Signer + " signed " + s.Workload
	}
	return what + "verified, signed by " + s.Signer
}
