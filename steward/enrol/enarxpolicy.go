package enrol

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"

	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/policy"
	"github.com/donjon-tee/donjon/attest/verdict"
)

// demand makes checks that Enarx's TOML asks for and that a policy has no word for.
type demand func(*claims.Claims) []verdict.Check

// enarxTOML is Enarx's configuration of its Steward.
type enarxTOML struct {
	SGX *struct {
		Signer            []string `toml:"signer"`
		Hash              []string `toml:"hash"`
		HashBlacklist     []string `toml:"hash_blacklist"`
		Features          []string `toml:"features"`
		SecurityVersion   *uint16  `toml:"enclave_security_version"`
		ProductID         *uint16  `toml:"enclave_product_id"`
		MiscSelect        []string `toml:"misc_select"`
		AllowedAdvisories []string `toml:"allowed_advisories"`
	} `toml:"sgx"`
	SNP *struct {
		Signer         []string `toml:"signer"`
		Hash           []string `toml:"hash"`
		HashBlacklist  []string `toml:"hash_blacklist"`
		IDKey          []string `toml:"id_key_digest"`
		IDKeyBlacklist []string `toml:"id_key_digest_blacklist"`
		ABI            string   `toml:"abi"`
		PolicyFlags    []string `toml:"policy_flags"`
		PlatformInfo   []string `toml:"platform_info_flags"`
	} `toml:"snp"`
}

// Parse reads the rules: a policy (it begins with version = 1) or Enarx's own TOML,
// which is turned into one. What Enarx did not look at, and a policy does by default
// (the floors of the TCB, which Milan is; the QE's identity, which its requests do not
// carry), is then not demanded either, and Notes says so.
func (e *Enarx) Parse(b []byte) error {
	var form struct {
		Version *int `toml:"version"`
	}
	if err := toml.Unmarshal(b, &form); err != nil {
		return fmt.Errorf("the Enarx policy: %w", err)
	}
	if form.Version != nil {
		p, err := policy.Parse(b)
		e.Policy = p
		return err
	}
	var in enarxTOML
	d := toml.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return fmt.Errorf("the Enarx policy: %w", err)
	}
	text, err := e.translate(&in)
	if err != nil {
		return fmt.Errorf("the Enarx policy: %w", err)
	}
	e.Policy, err = policy.Parse([]byte(text))
	return err
}

func quoted(list []string, size int) (string, error) {
	out := make([]string, 0, len(list))
	for _, x := range list {
		b, err := hex.DecodeString(x)
		if err != nil || len(b) != size {
			return "", fmt.Errorf("found %q, wanted %d bytes in hexadecimal", x, size)
		}
		out = append(out, `"`+hex.EncodeToString(b)+`"`)
	}
	return "[" + strings.Join(out, ", ") + "]", nil
}

func (e *Enarx) translate(in *enarxTOML) (string, error) {
	var b strings.Builder
	b.WriteString("version = 1\nname = \"imported from Enarx\"\n")
	if in.SGX != nil {
		for _, c := range []string{"qe-identity", "qe-identity-signature", "qe-identity-current"} {
			fmt.Fprintf(&b, "[[waive]]\ncheck = %q\nreason = \"Enarx's requests carry no QE identity\"\n", c)
		}
		e.Notes = append(e.Notes, "[sgx]: the quoting enclave's identity is not looked at: Enarx's requests do not carry it")
	}
	for _, f := range []func(*strings.Builder, *enarxTOML) error{e.translateSGX, e.translateSNP} {
		if err := f(&b, in); err != nil {
			return "", err
		}
	}
	if in.SGX == nil && in.SNP == nil {
		return "", errors.New("neither [sgx] nor [snp]")
	}
	return b.String(), nil
}

func (e *Enarx) translateSGX(b *strings.Builder, in *enarxTOML) error {
	s := in.SGX
	if s == nil {
		return nil
	}
	if s.Signer == nil && s.Hash == nil && s.HashBlacklist == nil {
		return errors.New("[sgx]: one of signer, hash and hash_blacklist is needed")
	}
	b.WriteString("[sgx]\n")
	hash, err := quoted(s.Hash, 32)
	if err != nil {
		return fmt.Errorf("[sgx] hash: %w", err)
	}
	signers, err := quoted(s.Signer, 32)
	if err != nil {
		return fmt.Errorf("[sgx] signer: %w", err)
	}
	switch {
	case s.Hash != nil:
		fmt.Fprintf(b, "enclaves = %s\n", hash)
		e.demandSGX(s.Signer, s.ProductID, s.SecurityVersion)
	case s.Signer != nil && s.ProductID != nil && s.SecurityVersion != nil:
		b.WriteString("signers = [")
		for i, x := range strings.Split(strings.Trim(signers, "[]"), ", ") {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(b, "{mrsigner = %s, prod_id = %d, min_svn = %d}", x, *s.ProductID, *s.SecurityVersion)
		}
		b.WriteString("]\n")
	default:
		return errors.New("[sgx]: signer without hash needs enclave_product_id and enclave_security_version: a signer vouches for all it ever signed")
	}
	if err := e.deny("hash_blacklist", s.HashBlacklist, 32, func(c *claims.Claims) []byte {
		if c.SGX == nil {
			return nil
		}
		return c.SGX.MRENCLAVE
	}); err != nil {
		return fmt.Errorf("[sgx] %w", err)
	}
	for _, f := range s.Features {
		switch strings.ToLower(f) {
		case "debug":
			b.WriteString("allow_debug = true\n")
			e.Notes = append(e.Notes, "[sgx]: enclaves in debug mode are admitted: their memory is the host's to read")
		case "cet", "kss", "aex_notify", "aexnotify":
		default:
			return fmt.Errorf("[sgx] features: found %q, which is never admitted", f)
		}
	}
	for _, m := range s.MiscSelect {
		if strings.ToUpper(m) != "EXINFO" {
			return fmt.Errorf("[sgx] misc_select: found %q, wanted EXINFO", m)
		}
	}
	if len(s.AllowedAdvisories) > 0 {
		// With such a list Enarx looks at no status.
		b.WriteString("statuses = [\"UpToDate\", \"SWHardeningNeeded\", \"ConfigurationNeeded\", \"ConfigurationAndSWHardeningNeeded\", \"OutOfDate\", \"OutOfDateConfigurationNeeded\"]\nadvisories = [")
		for i, x := range s.AllowedAdvisories {
			if !advisoryName().MatchString(x) {
				return fmt.Errorf("[sgx] allowed_advisories: found %q", x)
			}
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(b, "%q", x)
		}
		b.WriteString("]\n")
		e.Notes = append(e.Notes, "[sgx]: with allowed_advisories every TCB status is admitted but Revoked, out of date too")
	}
	return nil
}

var advisoryName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^INTEL-SA-[0-9]{5}$`) })

// demandSGX makes signer, product and version conditions beside the hash.
func (e *Enarx) demandSGX(signers []string, product, version *uint16) {
	e.demands = append(e.demands, func(c *claims.Claims) []verdict.Check {
		if c.SGX == nil {
			return nil
		}
		var out []verdict.Check
		if signers != nil && !slices.ContainsFunc(signers, func(x string) bool { return strings.EqualFold(x, c.SGX.MRSIGNER.String()) }) {
			out = append(out, verdict.Fail(verdict.IDBlock, "MRSIGNER "+c.SGX.MRSIGNER.String(), "one of the policy's signers").From("Enarx policy: [sgx] signer"))
		}
		if product != nil && c.SGX.ISVProdID != *product {
			out = append(out, verdict.Fail(verdict.Attributes, fmt.Sprintf("product %d", c.SGX.ISVProdID), fmt.Sprintf("%d", *product)).From("Enarx policy: [sgx] enclave_product_id"))
		}
		if version != nil && c.SGX.ISVSVN < *version {
			out = append(out, verdict.Fail(verdict.Attributes, fmt.Sprintf("security version %d", c.SGX.ISVSVN), fmt.Sprintf("at least %d", *version)).From("Enarx policy: [sgx] enclave_security_version"))
		}
		return out
	})
}

// deny refuses listed values.
func (e *Enarx) deny(name string, list []string, size int, of func(*claims.Claims) []byte) error {
	if _, err := quoted(list, size); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(list) == 0 {
		return nil
	}
	e.demands = append(e.demands, func(c *claims.Claims) []verdict.Check {
		found := hex.EncodeToString(of(c))
		if found == "" || !slices.ContainsFunc(list, func(x string) bool { return strings.EqualFold(x, found) }) {
			return nil
		}
		return []verdict.Check{verdict.Fail(verdict.RuntimePinned, found, "none that the policy refuses").From("Enarx policy: " + name)}
	})
	return nil
}

func (e *Enarx) translateSNP(b *strings.Builder, in *enarxTOML) error {
	s := in.SNP
	if s == nil {
		return nil
	}
	if s.Signer == nil && s.Hash == nil && s.HashBlacklist == nil {
		return errors.New("[snp]: one of signer, hash and hash_blacklist is needed")
	}
	if s.Hash == nil {
		return errors.New("[snp]: hash is needed: a signer vouches for all it ever signed, and this form has no least version")
	}
	if len(s.PolicyFlags) > 0 {
		return errors.New("[snp] policy_flags: Enarx reads them and does not look at them: write a policy instead (version = 1)")
	}
	b.WriteString("[snp]\nproducts = [\"Milan\", \"Genoa\"]\n")
	for _, x := range []struct {
		key, name string
		list      []string
	}{{"launch_digests", "hash", s.Hash}, {"author_keys", "signer", s.Signer}, {"id_keys", "id_key_digest", s.IDKey}} {
		if x.list == nil {
			continue
		}
		q, err := quoted(x.list, 48)
		if err != nil {
			return fmt.Errorf("[snp] %s: %w", x.name, err)
		}
		fmt.Fprintf(b, "%s = %s\n", x.key, q)
	}
	if s.ABI != "" {
		m := abiRange().FindStringSubmatch(s.ABI)
		if m == nil {
			return fmt.Errorf("[snp] abi: found %q, wanted a least version such as >=1.51", s.ABI)
		}
		fmt.Fprintf(b, "min_abi = %q\n", m[1])
	}
	for _, f := range s.PlatformInfo {
		switch strings.ToUpper(f) {
		case "TSME":
			b.WriteString("platform_info_required = [\"tsme\"]\n")
		default:
			return fmt.Errorf("[snp] platform_info_flags: found %q, wanted TSME", f)
		}
	}
	b.WriteString("[snp.floors.Milan]\nsnp = 0\n[snp.floors.Genoa]\nsnp = 0\n")
	e.Notes = append(e.Notes, "[snp]: any TCB is admitted, and Milan, whose reports can be forged (arXiv 2605.12990): Enarx looks at neither")
	for _, x := range []struct {
		name string
		list []string
		of   func(*claims.SNPClaims) claims.Hex
	}{
		{"hash_blacklist", s.HashBlacklist, func(c *claims.SNPClaims) claims.Hex { return c.LaunchDigest }},
		{"id_key_digest_blacklist", s.IDKeyBlacklist, func(c *claims.SNPClaims) claims.Hex { return c.IDKeyDigest }},
	} {
		if err := e.deny(x.name, x.list, 48, func(c *claims.Claims) []byte {
			if c.SNP == nil {
				return nil
			}
			return x.of(c.SNP)
		}); err != nil {
			return fmt.Errorf("[snp] %w", err)
		}
	}
	return nil
}

// abiRange is the part of semver's ranges that means a least version.
var abiRange = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*>=\s*([0-9]+\.[0-9]+)(?:\.0)?\s*$`)
})
