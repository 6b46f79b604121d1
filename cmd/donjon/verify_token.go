//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/donjon-tee/donjon/attest/ear"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// tokenFlags ask for the verdict as an EAR token (docs/ear.md).
type tokenFlags struct {
	file, key, audience string
	lifetime            time.Duration
}

func (f *tokenFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.file, "token", "", "write the verdict as an EAR token (a signed JWT) to `FILE`")
	c.Flags().StringVar(&f.key, "token-key", "", "sign the token with this ECDSA key, P-256 or P-384, a PEM `FILE`")
	c.Flags().StringVar(&f.audience, "token-audience", "", "who may accept the token (`NAME`)")
	c.Flags().DurationVar(&f.lifetime, "token-lifetime", 5*time.Minute, "how long the token counts")
}

// signer reads the key before anything is judged; nil: no token is asked for.
func (f *tokenFlags) signer() (crypto.Signer, error) {
	if f.file == "" {
		if f.key+f.audience != "" {
			return nil, usageError(errors.New("--token-key and --token-audience belong to --token"))
		}
		return nil, nil
	}
	if f.key == "" || f.audience == "" {
		return nil, usageError(errors.New("--token needs --token-key and --token-audience"))
	}
	b, err := readAtMost(f.key, 64<<10)
	if err != nil {
		return nil, err
	}
	for rest := b; ; {
		var p *pem.Block
		if p, rest = pem.Decode(rest); p == nil {
			return nil, fail(statusUsage, fmt.Errorf("--token-key %s: no ECDSA private key in PEM", f.key))
		}
		if k, err := x509.ParseECPrivateKey(p.Bytes); err == nil {
			return k, nil
		}
		if k, err := x509.ParsePKCS8PrivateKey(p.Bytes); err == nil {
			if k, ok := k.(*ecdsa.PrivateKey); ok {
				return k, nil
			}
		}
	}
}

// write makes the token, issued at the time of judging. Where the evidence binds a key, only its holder may use it.
func (f *tokenFlags) write(v *verdict.Verdict, key crypto.Signer) error {
	if key == nil {
		return nil
	}
	if v.At.After(time.Now().Add(time.Minute)) {
		return usageError(errors.New("--token: found a time of judging in the future (--at): nobody can say now what is true then"))
	}
	o := ear.Options{IssuedAt: v.At, Lifetime: f.lifetime, NotAfter: v.At.Add(f.lifetime), Audience: f.audience, Rand: rand.Reader,
		Verifier: ear.Verifier{Developer: "https://github.com/donjon-tee/donjon", Build: "donjon " + buildVersion().Version}}
	o.Bearer = v.Claims == nil || v.Claims.Key == nil
	token, err := ear.Encode(v, key, o)
	if err != nil {
		return fail(statusFailed, fmt.Errorf("--token: %w", err))
	}
	return writeEvidenceFile(f.file, []byte(token+"\n"))
}
