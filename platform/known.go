package platform

import (
	"fmt"
	"strings"
)

// Product is one row of the hardware list: processors on which a TEE of ours
// exists, and what they need around them. An empty field means that no source
// was found, not that nothing is needed.
type Product struct {
	Product  string `json:"product"`
	Codename string `json:"codename"`
	// TEE is the name that --tee takes.
	TEE string `json:"tee"`
	// Firmware is the least firmware, and the floor that known advisories set.
	Firmware string `json:"firmware,omitempty"`
	// HostKernel, QEMU and GuestKernel are the first upstream releases.
	HostKernel  string `json:"host_kernel,omitempty"`
	QEMU        string `json:"qemu,omitempty"`
	GuestKernel string `json:"guest_kernel,omitempty"`
	// Clouds are offers that name this TEE on this processor. An offer is not a
	// promise that Donjon runs there: some hand out a TEE guest, not a host.
	Clouds []string `json:"clouds,omitempty"`
	Notes  string   `json:"notes,omitempty"`
	// Sources say where the row's facts stand.
	Sources []string `json:"sources"`
}

// Sources that more than one row rests on.
const (
	srcQAPI      = "https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html (SevSnpGuestProperties, TdxGuestProperties: since)"
	srcSNPKVM    = "https://gitlab.com/redhat/centos-stream/src/kernel/centos-stream-9/-/merge_requests/4224"
	srcSNPGuest  = "https://git.zx2c4.com/linux-dev/commit/?id=eb39e37d5cebdf0f63ee2a315fc23b035d81b4b0"
	srcAMDSEV    = "https://github.com/AMDESE/AMDSEV"
	srcSEVDev    = "https://tangled.org/tjh.dev/kernel/blob/v6.11/drivers/crypto/ccp/sev-dev.c (SNP_MIN_API_MAJOR, SNP_MIN_API_MINOR)"
	srcSB3015    = "AMD-SB-3015"
	srcTDXKVM    = "https://gitlab.com/redhat/centos-stream/src/kernel/centos-stream-9/-/merge_requests/6701"
	srcTDXModule = "https://github.com/intel/confidential-computing.tdx.tdx-module/releases"
	srcTSM       = "Linux Documentation/ABI/testing/configfs-tsm (KernelVersion 6.7)"
	srcDataproc  = "https://docs.cloud.google.com/dataproc/docs/concepts/configuring-clusters/confidential-compute"
	srcAzure     = "https://github.com/MicrosoftDocs/azure-docs/pull/128510/files"
)

// Known is the hardware list, the very rows of docs/hardware.md. It is made anew
// at each call: nobody can change it for others.
func Known() []Product {
	return []Product{
		{
			Product: "AMD EPYC 7003", Codename: "Milan", TEE: "snp",
			Firmware:   "SEV firmware 1.51 to launch; 1.55.22 against AMD-SB-3015; recent SEV firmware needs AGESA MilanPI 1.0.0.9",
			HostKernel: "6.11", QEMU: "9.1", GuestKernel: "5.19",
			Clouds: []string{"Azure DCasv5, ECasv5", "Google Cloud N2D", "Amazon EC2 (instances with AMD SEV-SNP, signed with VLEK)"},
			Notes:  "the seed of its root key is reported to be extractable in software: admit it by name only",
			Sources: []string{
				srcSEVDev, srcAMDSEV, srcSB3015, srcSNPKVM, srcQAPI, srcSNPGuest,
				"https://github.com/MicrosoftDocs/azure-docs/blob/main/articles/virtual-machines/dcasv5-dcadsv5-series.md",
				srcDataproc, "https://docs.amazonaws.cn/en_us/AWSEC2/latest/UserGuide/sev-snp.md", "arXiv 2605.12990",
			},
		},
		{
			Product: "AMD EPYC 9004", Codename: "Genoa", TEE: "snp",
			Firmware:   "SEV firmware 1.51 to launch; 1.55.38 against AMD-SB-3015; comes with the BIOS",
			HostKernel: "6.11", QEMU: "9.1", GuestKernel: "5.19",
			Clouds:  []string{"Azure DCasv6, ECasv6"},
			Sources: []string{srcSEVDev, srcAMDSEV, srcSB3015, srcSNPKVM, srcQAPI, srcSNPGuest, srcAzure},
		},
		{
			Product: "AMD EPYC 97x4, 8004", Codename: "Bergamo, Siena", TEE: "snp",
			Firmware:   "SEV firmware 1.51 to launch; own firmware file for family 19h models A0h to AFh",
			HostKernel: "6.11", QEMU: "9.1", GuestKernel: "5.19",
			Notes: "reports carry Genoa's product certificates with model A0h",
			Sources: []string{
				srcSEVDev, "https://gitlab.com/kernel-firmware/linux-firmware/-/merge_requests/278",
				"https://akash.network/docs/providers/operations/confidential-compute-hardware/", srcSNPKVM, srcQAPI, srcSNPGuest,
			},
		},
		{
			Product: "AMD EPYC 9005", Codename: "Turin", TEE: "snp",
			Firmware:   "SEV firmware 1.51 to launch; TurinPI 1.0.0.6 against AMD-SB-3020",
			HostKernel: "6.11", QEMU: "9.1", GuestKernel: "5.19",
			Notes: "another order of the TCB version, with a field for the FMC; hardware ids of 8 bytes",
			Sources: []string{
				srcSEVDev, "AMD-SB-3020", srcSNPKVM, srcQAPI, srcSNPGuest,
				"https://docs.nvidia.com/confidential-computing/virtual-machines/supported-platforms.md",
				"https://github.com/virtee/snpguest/issues/98",
			},
		},
		{
			Product: "Intel Xeon Scalable, 4th generation", Codename: "Sapphire Rapids", TEE: "tdx",
			Firmware:   "TDX module 1.5; 1.5.06 against INTEL-SA-01099",
			HostKernel: "6.16", QEMU: "10.1", GuestKernel: "5.19 to boot, 6.7 for quotes",
			Clouds: []string{"Azure DCesv5, ECesv5", "Google Cloud C3"},
			Notes:  "TDX was reserved for the large clouds in this generation",
			Sources: []string{
				srcTDXModule, "INTEL-SA-01099", srcTDXKVM, srcQAPI, srcTSM, "https://github.com/intel/tdx-tools/issues/399",
				"https://github.com/intel/terraform-intel-azure-linux-vm", srcDataproc,
			},
		},
		{
			Product: "Intel Xeon Scalable, 5th generation", Codename: "Emerald Rapids", TEE: "tdx",
			Firmware:   "TDX module 1.5; 1.5.06 against INTEL-SA-01099",
			HostKernel: "6.16", QEMU: "10.1", GuestKernel: "5.19 to boot, 6.7 for quotes",
			Sources: []string{srcTDXModule, "INTEL-SA-01099", srcTDXKVM, srcQAPI, srcTSM},
		},
		{
			Product: "Intel Xeon 6 with E-cores", Codename: "Sierra Forest", TEE: "tdx",
			Firmware:   "TDX module 1.5.05 with TDX loader 2.0",
			HostKernel: "6.16", QEMU: "10.1", GuestKernel: "5.19 to boot, 6.7 for quotes",
			Sources: []string{srcTDXModule, srcTDXKVM, srcQAPI, srcTSM},
		},
		{
			Product: "Intel Xeon 6 with P-cores", Codename: "Granite Rapids", TEE: "tdx",
			Firmware:   "TDX module 2.0 with TDX loader 2.0",
			HostKernel: "6.16", QEMU: "10.1", GuestKernel: "5.19 to boot, 6.7 for quotes",
			Sources: []string{srcTDXModule, srcTDXKVM, srcQAPI, srcTSM},
		},
		{
			Product: "Intel Xeon 6+", Codename: "Clearwater Forest", TEE: "tdx",
			Firmware:   "TDX module 2.0.18",
			HostKernel: "6.16", QEMU: "10.1", GuestKernel: "5.19 to boot, 6.7 for quotes",
			Sources: []string{srcTDXModule + "/tag/TDX_MODULE_2.0.18", srcTDXKVM, srcQAPI, srcTSM},
		},
		{
			Product: "Intel Xeon Scalable, 3rd generation", Codename: "Ice Lake", TEE: "sgx",
			Firmware:   "BIOS with SGX, flexible launch control and memory for it",
			HostKernel: "6.0 (driver 5.11, dynamic memory 6.0)",
			Clouds:     []string{"Azure DCsv3, DCdsv3", "Alibaba Cloud *7t instances"},
			Sources: []string{
				"https://github.com/ayeks/SGX-hardware/issues/92", "https://github.com/intel/linux-sgx/releases/tag/sgx_2.18",
				"https://github.com/NixOS/nixpkgs/pull/147693", "https://github.com/01org/linux-sgx-driver",
				"https://enarx.dev (hardware list)",
			},
		},
		{
			Product: "IBM POWER9 DD2.3 (PVR 004e1203)", Codename: "POWER9", TEE: "pef",
			Firmware:   "OPAL on bare metal with the ultravisor, which IBM no longer maintains",
			HostKernel: "5.5", QEMU: "7.2 (the oldest seen with pef-guest)",
			GuestKernel: "with CONFIG_PPC_SVM, which Debian's kernels have not",
			Notes:       "no memory encryption, no signed report, no ultravisor known for later processors",
			Sources: []string{
				"https://docs.kernel.org/arch/powerpc/ultravisor.html", "https://github.com/open-power/ultravisor",
				"https://git.zx2c4.com/linux-dev/commit/?id=3525d0ccd92c760d22b8ee26f484fb7e9941c99c",
				"https://git.zx2c4.com/qemu/tree/hw/ppc/pef.c",
			},
		},
	}
}

// KnownMarkdown renders products as docs/hardware.md.
func KnownMarkdown(products []Product) string {
	var b strings.Builder
	b.WriteString(`# Hardware

This page is made from the table in ` + "`platform/known.go`" + ` (` + "`go test ./platform -run Hardware -update`" + `);
` + "`donjon platform --known`" + ` prints the same rows. It says what exists, from public sources; **none of it has
been tried with Donjon yet** (LIMITATIONS.md). Kernel and QEMU are the first upstream releases: distributions
carry the features in older ones too, and ` + "`donjon platform`" + ` looks at the features themselves. An empty cell
means that no source was found.

| product | TEE | firmware | host kernel | QEMU | guest kernel | clouds | notes | sources |
|---|---|---|---|---|---|---|---|---|
`)
	numbers, order := map[string]int{}, []string{}
	for _, p := range products {
		var refs []string
		for _, s := range p.Sources {
			if numbers[s] == 0 {
				order = append(order, s)
				numbers[s] = len(order)
			}
			refs = append(refs, fmt.Sprint(numbers[s]))
		}
		cells := []string{
			p.Product + " (" + p.Codename + ")", p.TEE, p.Firmware, p.HostKernel, p.QEMU, p.GuestKernel,
			strings.Join(p.Clouds, "; "), p.Notes, strings.Join(refs, ", "),
		}
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	b.WriteString("\n## Sources\n\n")
	for i, s := range order {
		fmt.Fprintf(&b, "%d. %s\n", i+1, s)
	}
	return b.String()
}
