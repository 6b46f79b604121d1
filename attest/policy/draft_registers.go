package policy

import (
	"slices"
	"strconv"

	"github.com/donjon-tee/donjon/attest/claims"
)

// draftRegisters writes platform configuration registers that hold something, in
// order. In a table of its own, so that it comes last.
func draftRegisters(w *writer, table string, pcrs map[int]claims.Hex, note func(int) string) {
	w.table(table)
	var order []int
	for i, v := range pcrs {
		if !claims.Zero(v) && !allOnes(v) {
			order = append(order, i)
		}
	}
	slices.Sort(order)
	for _, i := range order {
		w.key(strconv.Quote(strconv.Itoa(i)), quotedHexes(pcrs[i]), note(i))
	}
}

// allOnes is what a register holds that no boot has touched (17 to 22).
func allOnes(b []byte) bool {
	for _, x := range b {
		if x != 0xff {
			return false
		}
	}
	return true
}

func draftTPM(w *writer, c *claims.Claims) {
	t := c.TPM
	w.table("tpm")
	w.key("bank", text(t.Bank), "")
	if t.Endorsed == "" {
		w.comment("NAMED: nothing in the evidence says that this key belongs to a TPM. This policy says so:\nkeep it only if you know where the key is from.")
		w.key("attestation_keys", quotedHexes(t.AKSHA256), "")
	}
	draftRegisters(w, "tpm.pcrs", t.PCRs, func(i int) string {
		if i < 8 {
			return [...]string{"firmware", "its configuration", "option ROMs", "their configuration", "boot loader", "its configuration", "host's events", "secure boot policy"}[i]
		}
		return ""
	})
}

func draftNitro(w *writer, c *claims.Claims) {
	n := c.Nitro
	w.table("nitro")
	w.comment(`max_age = "5m" demands a young document where no nonce does.`)
	draftRegisters(w, "nitro.pcrs", n.PCRs, func(i int) string {
		return map[int]string{0: "the enclave image", 1: "its kernel and boot ramdisk", 2: "its application", 3: "the parent instance's IAM role; without the key: any",
			4: "the parent instance; without the key: any", 8: "the image's signing certificate"}[i]
	})
}
