//go:build linux

package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/envelope"
)

func newCollateralStaple(a *app) *cobra.Command {
	var out string
	var paths []string
	c := &cobra.Command{
		Use:   "staple -o FILE EVIDENCE",
		Short: "write evidence together with the collateral that verifying it needs",
		Long: `staple puts collateral (the cache's, and what --collateral names) and EVIDENCE into
one file, so that whoever verifies it needs nothing else. It says nothing about
either: the verifier checks both.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			if out == "" {
				return usageError(errors.New("-o is missing: where to write it"))
			}
			return a.staple(args[0], out, paths)
		},
	}
	c.Flags().StringVarP(&out, "output", "o", "", "the `FILE` to write")
	c.Flags().StringArrayVar(&paths, "collateral", nil, "vendor data: a bundle, a file or a folder of files (`PATH`, repeatable)")
	return c
}

func (a *app) staple(name, out string, paths []string) error {
	b, err := a.readEvidence(name)
	if err != nil {
		return err
	}
	set, err := a.readCollateral(paths)
	if err != nil {
		return err
	}
	var v attest.Verifier
	now := time.Now()
	verified := v.Verify(b, attest.Options{At: now, Collateral: set, PlatformOnly: true})
	if verified.Claims == nil {
		return verdictStatus(verified)
	}
	set = collateral.Merge(set, a.cachedCollateral(verified.Claims))
	if len(set.Certificates)+len(set.Lists)+len(set.TCBInfos)+len(set.QEIdentities) == 0 {
		return failHint(statusFailed, "donjon collateral fetch "+name+" gets it, or name it with --collateral", errors.New("there is no collateral for this evidence to staple"))
	}
	bundle := &collateral.Bundle{}
	bundle.Add(set, now)
	raw, err := bundle.Encode()
	if err != nil {
		return fail(statusFailed, err)
	}
	whole, err := envelope.Staple(b, raw)
	if err != nil {
		return fail(statusFailed, fmt.Errorf("%s: %w", name, err))
	}
	for _, l := range bundle.Summary(now) {
		if l.Expired {
			a.note("stapled although it has ended on %s: %s %s%s", l.Until.Format(time.DateOnly), l.Kind, l.Subject, l.Issuer)
		}
	}
	return writeEvidenceFile(out, whole)
}
