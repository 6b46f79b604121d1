package snp

import (
	"bytes"
	"fmt"

	"github.com/donjon-tee/donjon/attest/claims"
)

// makeClaims is what the report says, with the product, provider and root that the
// endorsement key c adds; nil: there is none.
func makeClaims(r Report, c *candidate) *claims.Claims {
	product := r.Product()
	out := &claims.Claims{TEE: claims.SNP, ReportData: bytes.Clone(r.ReportData[:]), HostData: bytes.Clone(r.HostData[:])}
	csp := ""
	if c != nil {
		csp = c.e.CSP
		if line := c.e.ProductLine(); product == "" && r.Version < 3 && known(line) {
			product = line
		}
		out.Root = c.path.root()
	}
	s := &claims.SNPClaims{
		ReportVersion: r.Version, Product: product, Family: r.CPUFamily, Model: r.CPUModel, Stepping: r.CPUStepping,
		LaunchDigest: bytes.Clone(r.Measurement[:]), GuestPolicy: r.Policy, GuestSVN: r.GuestSVN,
		FamilyID: bytes.Clone(r.FamilyID[:]), ImageID: bytes.Clone(r.ImageID[:]), VMPL: r.VMPL, PlatformInfo: r.PlatformInfo,
		IDKeyDigest: bytes.Clone(r.IDKeyDigest[:]), AuthorKeyDigest: bytes.Clone(r.AuthorKeyDigest[:]),
		ReportID: bytes.Clone(r.ReportID[:]), ReportIDMA: bytes.Clone(r.ReportIDMA[:]), ChipID: bytes.Clone(r.ChipID[:]),
		SigningKey: r.SigningKey().String(), CSP: csp,
		Reported: r.ReportedTCB.split(product), Committed: r.CommittedTCB.split(product),
		Current: r.CurrentTCB.split(product), Launch: r.LaunchTCB.split(product),
		CurrentVersion:   fmt.Sprintf("%d.%d.%d", r.CurrentMajor, r.CurrentMinor, r.CurrentBuild),
		CommittedVersion: fmt.Sprintf("%d.%d.%d", r.CommittedMajor, r.CommittedMinor, r.CommittedBuild),
	}
	if r.Version >= 5 {
		launch, current := r.LaunchMitigate, r.CurrentMitigate
		s.LaunchMitigations, s.CurrentMitigations = &launch, &current
	}
	out.SNP = s
	return out
}

// split takes a TCB_VERSION apart in its product's order (AMD 56860, TCB_VERSION).
func (t TCB) split(product string) claims.SNPTCB {
	if product == Turin {
		fmc := byte(t)
		return claims.SNPTCB{FMC: &fmc, BootLoader: byte(t >> 8), TEE: byte(t >> 16), SNP: byte(t >> 24), Microcode: byte(t >> 56)}
	}
	return claims.SNPTCB{BootLoader: byte(t), TEE: byte(t >> 8), SNP: byte(t >> 48), Microcode: byte(t >> 56)}
}

// reserved gives the bytes of a TCB_VERSION that its product has no use for.
func (t TCB) reserved(product string) TCB {
	if product == Turin {
		return t & 0x00ffffff_00000000
	}
	return t & 0x0000ffff_ffff0000
}
