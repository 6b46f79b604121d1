package snp

import "github.com/donjon-tee/donjon/attest/pki"

// ForgetKeys forgets which endorsement keys were verified, as if each were new.
func (v *Verifier) ForgetKeys() { v.links = pki.Cache{} }
