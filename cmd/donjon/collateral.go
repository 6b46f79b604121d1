//go:build linux

package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/x509roots/fallback/bundle"

	"github.com/donjon-tee/donjon/attest"
	"github.com/donjon-tee/donjon/attest/claims"
	"github.com/donjon-tee/donjon/attest/collateral"
	"github.com/donjon-tee/donjon/attest/collateral/fetch"
	"github.com/donjon-tee/donjon/attest/dcap"
	"github.com/donjon-tee/donjon/attest/snp"
)

func newCollateralCommand(a *app) *cobra.Command {
	c := &cobra.Command{
		Use:   "collateral",
		Short: "get, carry and show the vendor data that verifying needs",
		Long: `Verifying evidence needs data of the processor's vendor beside it: certificates,
revocation lists, Intel's TCB infos and QE identities. collateral gets it from the
vendors into a cache, carries it to machines without a network, and shows what is
there and how long it counts (docs/collateral.md).`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCollateralExport(a), newCollateralFetch(a), newCollateralImport(a), newCollateralList(a), newCollateralStaple(a))
	return c
}

// vendorFlags say what is asked for and whom.
type vendorFlags struct {
	products                       []string
	kds, pcs, intelCA, pccs, pccCA string
	update                         string
	maxAge                         time.Duration
	offline                        bool
}

func (f *vendorFlags) register(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.products, "product", nil, "what all processors of an AMD `PRODUCT` have in common: milan, genoa or turin (repeatable)")
	c.Flags().StringVar(&f.kds, "kds", "", "ask this `URL` instead of AMD's key server")
	c.Flags().StringVar(&f.pcs, "pcs", "", "ask this `URL` instead of Intel's provisioning service")
	c.Flags().StringVar(&f.intelCA, "intel-ca", "", "ask this `URL` instead of Intel's server of root lists")
	c.Flags().StringVar(&f.pccs, "pccs", "", "ask this PCCS `URL` instead of both of Intel's servers")
	c.Flags().StringVar(&f.pccCA, "pccs-ca", "", "the PCCS has a certificate of an authority in this PEM `FILE`")
	c.Flags().StringVar(&f.update, "update", "standard", "Intel's TCB infos: standard, or early ones from the day a flaw is published")
	c.Flags().DurationVar(&f.maxAge, "max-age", fetch.DefaultMaxAge, "ask again for lists and TCB infos that were got longer ago")
	c.Flags().BoolVar(&f.offline, "offline", false, "ask nobody; what the cache has is used however old")
}

// fetchedFolder is where fetched collateral is, below the cache.
const fetchedFolder = "collateral"

// collateralDir is the folder of the cache.
func (a *app) collateralDir() (fetch.Dir, error) {
	dir := a.cacheDir()
	if dir == "" {
		return "", failHint(statusFailed, "set XDG_CACHE_HOME to a folder of this user", errors.New("this user has no home folder for the cache"))
	}
	return fetch.Dir(filepath.Join(dir, fetchedFolder)), nil
}

// vendorRoots are the certificates built in: AMD's roots and intermediates, Intel's
// root.
func vendorRoots() ([]*x509.Certificate, error) {
	intel, err := dcap.IntelRootCertificate()
	if err != nil {
		return nil, fail(statusFailed, err)
	}
	products, err := snp.Products()
	if err != nil {
		return nil, fail(statusFailed, err)
	}
	out := []*x509.Certificate{intel}
	for _, p := range products {
		out = append(out, p.ARK, p.ASK, p.ASVK)
	}
	return out, nil
}

// offlineClient is a client of the cache that asks nobody.
func (a *app) offlineClient() (*fetch.Client, error) {
	dir, err := a.collateralDir()
	if err != nil {
		return nil, err
	}
	roots, err := vendorRoots()
	if err != nil {
		return nil, err
	}
	return &fetch.Client{Cache: dir, Now: time.Now, Sleep: a.sleep, Roots: roots, Offline: true}, nil
}

// cachedCollateral is what the cache has for evidence with these claims, however old;
// empty where it has nothing. The verifier says what counts.
func (a *app) cachedCollateral(c *claims.Claims) *collateral.Set {
	client, err := a.offlineClient()
	if err != nil {
		return &collateral.Set{}
	}
	requests, _ := fetch.Requests(c, fetch.Standard) // those that can be made
	set, _, _ := client.All(context.Background(), requests)
	return set
}

// sleep waits, and says so where that is long.
func (a *app) sleep(ctx context.Context, d time.Duration) error {
	a.progress(fmt.Sprintf("the vendor's server wants to be asked less often: waiting %s", d.Round(time.Second)))
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// client makes the client that the flags ask for.
func (f *vendorFlags) client(a *app) (*fetch.Client, error) {
	c, err := a.offlineClient()
	if err != nil {
		return nil, err
	}
	if f.maxAge <= 0 {
		return nil, usageError(fmt.Errorf("--max-age: found %s, wanted more than 0", f.maxAge))
	}
	if f.pccCA != "" && f.pccs == "" {
		return nil, usageError(errors.New("--pccs-ca is for a PCCS: --pccs is missing"))
	}
	c.Offline, c.MaxAge = f.offline, f.maxAge
	c.KDSBase, c.PCSBase, c.IntelCABase, c.PCCS = f.kds, f.pcs, f.intelCA, f.pccs
	public := x509.NewCertPool()
	for r := range bundle.Roots() {
		root, err := x509.ParseCertificate(r.Certificate)
		if err != nil {
			return nil, fail(statusFailed, fmt.Errorf("a root that is compiled in: %w", err))
		}
		if r.Constraint == nil {
			public.AddCert(root)
		} else {
			public.AddCertWithConstraint(root, r.Constraint)
		}
	}
	d := &hosts{all: fetch.NewHTTP(public, http.ProxyFromEnvironment)}
	if f.pccCA != "" {
		pem, err := readAtMost(f.pccCA, 1<<20)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fail(statusFailed, fmt.Errorf("--pccs-ca %s: found no certificate in PEM form", f.pccCA))
		}
		u, err := url.Parse(f.pccs)
		if err != nil {
			return nil, usageError(fmt.Errorf("--pccs: found %q, wanted a URL", f.pccs))
		}
		d.host, d.own = u.Host, fetch.NewHTTP(pool, nil)
	}
	c.HTTP = d
	return c, nil
}

// hosts sends requests for one host by a client of its own.
type hosts struct {
	host     string
	own, all *http.Client
}

func (h *hosts) Do(r *http.Request) (*http.Response, error) {
	if h.own != nil && r.URL.Host == h.host {
		return h.own.Do(r)
	}
	return h.all.Do(r)
}

// requests lists what evidence and products need, each thing once. What evidence
// says is not checked here: a lie gets collateral that does not fit.
func (f *vendorFlags) requests(a *app, evidence []string) ([]fetch.Request, error) {
	update := fetch.Update(f.update)
	if update != fetch.Standard && update != fetch.Early {
		return nil, usageError(fmt.Errorf("--update: found %q, wanted standard or early", f.update))
	}
	var out []fetch.Request
	var products []string
	seen := map[string]bool{}
	add := func(requests []fetch.Request) {
		for _, r := range requests {
			if !seen[r.URL] {
				seen[r.URL] = true
				out = append(out, r)
			}
		}
	}
	for _, p := range f.products {
		name := ""
		if p != "" {
			name = strings.ToUpper(p[:1]) + strings.ToLower(p[1:])
		}
		requests, err := fetch.Product(name)
		if err != nil {
			return nil, usageError(fmt.Errorf("--product: found %q, wanted milan, genoa or turin", p))
		}
		products = append(products, name)
		add(requests)
	}
	var v attest.Verifier
	for _, name := range evidence {
		b, err := a.readEvidence(name)
		if err != nil {
			return nil, err
		}
		judged := v.Verify(b, attest.Options{At: time.Now(), PlatformOnly: true})
		if judged.Claims == nil {
			return nil, failHint(statusNotGenuine, "donjon verify says more", fmt.Errorf("%s: no evidence that can be read", name))
		}
		if s := judged.Claims.SNP; s != nil && s.Product == "" && len(products) == 1 {
			s.Product = products[0] // version 2 of the report does not say
		}
		requests, err := fetch.Requests(judged.Claims, update)
		if errors.Is(err, fetch.ErrNoProduct) {
			return nil, failHint(statusFailed, "name it: --product milan or --product genoa", fmt.Errorf("%s: %w", name, err))
		}
		if err != nil {
			return nil, fail(statusFailed, fmt.Errorf("%s: %w", name, err))
		}
		add(requests)
	}
	return out, nil
}

// interruptible is a context that ends when the user wants it to.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}
