package advisory

// AMD's bulletins are HTML and were not read themselves: Vendor rows rest on the
// CVE records that AMD as CNA wrote, which name the bulletin. SPLs and mitigation
// bits stand in the bulletins alone; where another party quotes them the row is
// Derived and its note says who. Of two parts with one product name the microcode
// numbers differ (CPU): low byte of the patch level.
const (
	amdBulletin = "https://www.amd.com/en/resources/product-security/bulletin/"
	milan       = "Milan"
	genoa       = "Genoa"
	turin       = "Turin"
)

var snpRows = []Row{
	{
		ID: "AMD-SB-1004", CVEs: []string{"CVE-2020-12967", "CVE-2021-26311"}, Published: "2021-05-11",
		TEE: []string{"snp"}, Class: TCB, What: "SEV and SEV-ES guests: memory rearranged unnoticed, code run in the guest",
		Source: amdBulletin + "amd-sb-1004.html", Confidence: Vendor,
		Fix:  []Fix{{All: []Condition{{GuestPolicy, Set, "17"}}}},
		Note: "SEV-SNP is the fix; bit 17 of an SNP guest policy is always 1",
	},
	{
		ID: "AMD-SB-1032", CVEs: []string{"CVE-2021-26328", "CVE-2021-26409"}, Published: "2023-01-10",
		TEE: []string{"snp"}, Product: []string{milan}, Class: TCB, What: "SNP_INIT does not verify the mode of the processor: guest memory integrity",
		Source: amdBulletin + "amd-sb-1032.html", Confidence: Vendor,
		Unseen: "AMD's record gives no level that a report shows",
	},
	{
		ID: "AMD-SB-1033", Names: []string{"CipherLeaks", "ciphertext side channel"}, CVEs: []string{"CVE-2021-46744"}, Published: "2022-05-10",
		TEE: []string{"snp"}, Class: Config, What: "the host infers values from ciphertext that changes",
		Source: amdBulletin + "amd-sb-1033.html", Confidence: Vendor,
		Fix:  []Fix{{All: []Condition{{GuestPolicy, Set, "24"}, {PlatformInfo, Set, "4"}}}},
		Note: "no firmware fixes it: ciphertext hiding (policy bit 24, PLATFORM_INFO bit 4; not on Milan), or constant-time software, which no report shows",
	},
	{
		ID: "AMD-SB-3005", Names: []string{"CacheWarp"}, CVEs: []string{"CVE-2023-20592"}, Published: "2023-11-14",
		TEE: []string{"snp"}, Product: []string{milan}, Class: TCB, What: "INVD drops cache lines of a guest: old memory returns",
		Source: amdBulletin + "amd-sb-3005.html", Confidence: Memory,
		Fix:  []Fix{{Product: milan, CPU: "19-01-1", All: []Condition{{Microcode, AtLeast, "209"}}}},
		Note: "id, CVE and the 3rd generation stand in AMD's CVE record; the microcode level 0x0A0011D1 was checked against no source",
	},
	{
		ID: "AMD-SB-3007", CVEs: []string{"CVE-2023-31346", "CVE-2023-31347"}, Published: "2024-02-13",
		TEE: []string{"snp"}, Product: []string{milan, genoa}, Class: TCB, What: "SEV firmware: stale data of other guests, and a wrong secure TSC",
		Source: amdBulletin + "amd-sb-3007.html", Confidence: Vendor,
		Unseen: "AMD's record gives no level that a report shows",
	},
	{
		ID: "AMD-SB-3008", Names: []string{"WeSee", "Heckler"}, CVEs: []string{"CVE-2024-25742", "CVE-2024-25743", "CVE-2024-25744"}, Published: "2024-04",
		TEE: []string{"snp", "tdx"}, Class: Guest, What: "the host injects #VC or int 0x80 into the guest's kernel",
		Source: amdBulletin + "amd-sb-3008.html", Confidence: Derived,
		Unseen: "fixed by a guest kernel of 6.9 or later (WeSee), 6.7 or later (Heckler): only the launch measurement says which kernel runs",
		Note:   "kernel versions as distributions that build SNP guests record them; the bulletin's id was not checked",
	},
	{
		ID: "AMD-SB-3015", Names: []string{"BadRAM"}, CVEs: []string{"CVE-2024-21944"}, Published: "2024-12",
		TEE: []string{"snp"}, Product: []string{milan, genoa}, Class: Physical, What: "memory modules that lie about their size alias guest memory",
		Source: amdBulletin + "amd-sb-3015.html", Confidence: Vendor,
		Fix: []Fix{
			{Product: milan, All: []Condition{{Firmware, AtLeast, "1.55.22"}, {PlatformInfo, Set, "5"}}},
			{Product: genoa, All: []Condition{{Firmware, AtLeast, "1.55.38"}, {PlatformInfo, Set, "5"}}},
		},
		Note: "firmware in AMD's CVE record; PLATFORM_INFO bit 5 is ALIAS_CHECK_COMPLETE (AMD 56860): the check was made since the last reset",
	},
	{
		ID: "AMD-SB-3016", CVEs: []string{"CVE-2023-20585"}, Published: "2026-04-14",
		TEE: []string{"snp"}, Product: []string{milan, genoa}, Class: TCB, What: "the IOMMU writes host buffers without asking the RMP: guest integrity",
		Source: amdBulletin + "amd-sb-3016.html", Confidence: Derived,
		Fix: []Fix{
			{Product: milan, All: []Condition{{SNPSPL, AtLeast, "27"}, {Firmware, AtLeast, "1.55.35"}, {Mitigation, Set, "2"}}},
			{Product: genoa, All: []Condition{{SNPSPL, AtLeast, "27"}, {Firmware, AtLeast, "1.55.49"}, {Mitigation, Set, "2"}}},
		},
		Note: "firmware (1.37.23 and 1.37.31 in hexadecimal) in AMD's CVE record; SPL 0x1B and bit 2, which shows the host's update, as verifiers of other projects quote the bulletin",
	},
	{
		ID: "AMD-SB-3019", Names: []string{"EntrySign"}, CVEs: []string{"CVE-2024-56161"}, Published: "2025-02-03",
		TEE: []string{"snp"}, Product: []string{milan, genoa}, Class: TCB, What: "the processor loads forged microcode: reports and guests are the attacker's",
		Source: amdBulletin + "amd-sb-3019.html", Confidence: Derived,
		Fix: []Fix{
			{Product: milan, CPU: "19-01-1", All: []Condition{{SNPSPL, AtLeast, "24"}, {Microcode, AtLeast, "219"}}},
			{Product: milan, CPU: "19-01-2", All: []Condition{{SNPSPL, AtLeast, "24"}, {Microcode, AtLeast, "68"}}},
			{Product: genoa, CPU: "19-11-1", All: []Condition{{SNPSPL, AtLeast, "23"}, {Microcode, AtLeast, "84"}}},
			{Product: genoa, CPU: "19-11-2", All: []Condition{{SNPSPL, AtLeast, "23"}, {Microcode, AtLeast, "79"}}},
			{Product: genoa, CPU: "19-a", All: []Condition{{SNPSPL, AtLeast, "23"}, {Microcode, AtLeast, "25"}}},
		},
		Note: "MilanPI 1.0.0.F, GenoaPI 1.0.0.E in AMD's CVE record; SPLs 0x18 and 0x17 and microcode 0x0A0011DB, 0x0A001244, 0x0A101154, 0x0A10124F, 0x0AA00219 as other projects quote the bulletin",
	},
	{
		ID: "AMD-SB-7033", Names: []string{"EntrySign on Zen 5"}, CVEs: []string{"CVE-2024-36347"}, Published: "2025-06-27",
		TEE: []string{"snp"}, Class: TCB, What: "EntrySign on all of Zen 1 to 5: the processor loads forged microcode",
		Source: amdBulletin + "amd-sb-7033.html", Confidence: Vendor,
		Unseen: "MilanPI 1.0.0.F, GenoaPI 1.0.0.E, TurinPI 1.0.0.4 fix it, and AMD's record gives no level that a report shows; for Milan and Genoa see AMD-SB-3019",
	},
	{
		ID: "AMD-SB-7014", Names: []string{"Sinkclose"}, CVEs: []string{"CVE-2023-31315"}, Published: "2024-08-09",
		TEE: []string{"snp"}, Product: []string{milan, genoa}, Class: TCB, What: "ring 0 of the host reaches system management mode past its lock",
		Source: amdBulletin + "amd-sb-7014.html", Confidence: Derived,
		Unseen: "MilanPI 1.0.0.D, GenoaPI 1.0.0.C fix it, and no source gave a level that a report shows",
	},
	{
		ID: "AMD-SB-7029", Names: []string{"TSA", "transient scheduler attacks"}, CVEs: []string{"CVE-2024-36350", "CVE-2024-36357"}, Published: "2025-07",
		TEE: []string{"snp"}, Class: TCB, What: "timing of instructions leaks data across boundaries",
		Source: amdBulletin + "amd-sb-7029.html", Confidence: Memory,
		Unseen: "microcode and a kernel together fix it, and no source gave a level that a report shows",
	},
	{
		ID: "AMD-SB-3020", Names: []string{"RMPocalypse"}, CVEs: []string{"CVE-2025-0033"}, Published: "2025-10-14",
		TEE: []string{"snp"}, Class: TCB, What: "the host writes the RMP while SNP starts: guest integrity, forged reports",
		Source: amdBulletin + "amd-sb-3020.html", Confidence: Derived,
		Fix: []Fix{
			{Product: milan, All: []Condition{{Mitigation, Set, "1"}}},
			{Product: genoa, All: []Condition{{SNPSPL, AtLeast, "27"}, {Mitigation, Set, "0"}}},
			{Product: turin, CPU: "1a-02-1", All: []Condition{{SNPSPL, AtLeast, "4"}, {Microcode, AtLeast, "80"}}},
		},
		Note: "MilanPI 1.0.0.H and TurinPI 1.0.0.6 in AMD's CVE record; SPLs and microcode 0x0B002150 as another project quotes the bulletin, mitigation bits as Contrast's documentation does",
	},
	{
		ID: "AMD-SB-3021", Names: []string{"Heracles"}, Published: "2025-08",
		TEE: []string{"snp"}, Class: Config, What: "the host moves pages and compares ciphertext of chosen plaintext",
		Source: amdBulletin + "amd-sb-3021.html", Confidence: Derived,
		Fix:  []Fix{{All: []Condition{{GuestPolicy, Set, "25"}, {GuestPolicy, Set, "24"}, {PlatformInfo, Set, "4"}}}},
		Note: "no firmware alone fixes it: the guest policy forbids moving and swapping pages (bit 25) and demands ciphertext hiding (bit 24; AMD 56860), as another project reads the bulletin",
	},
	{
		ID: "AMD-SB-3023", CVEs: []string{"CVE-2025-48514"}, Published: "2026-02-10",
		TEE: []string{"snp"}, Class: TCB, What: "an SEV-ES guest of the host's attacks an SNP guest: confidentiality",
		Source: amdBulletin + "amd-sb-3023.html", Confidence: Derived,
		Fix: []Fix{
			{Product: milan, All: []Condition{{SNPSPL, AtLeast, "27"}}},
			{Product: genoa, All: []Condition{{SNPSPL, AtLeast, "27"}}},
			{Product: turin, All: []Condition{{SNPSPL, AtLeast, "4"}}},
		},
		Note: "SPLs 0x1B and 0x4 from the Linux patch of AMD's author, who says that the mitigation bit 3 which the bulletin first gave is another issue's",
	},
	{
		ID: "CVE-2025-38560", Names: []string{"COHERENCY_SFW_NO"}, CVEs: []string{"CVE-2025-38560"}, Published: "2025-08-19",
		TEE: []string{"snp"}, Product: []string{milan, genoa}, Class: Guest, What: "cache lines survive page validation in the guest's kernel",
		Source: "https://osv.dev/vulnerability/CVE-2025-38560", Confidence: Derived,
		Unseen: "fixed by a guest kernel of 6.1.148, 6.6.102, 6.12.42, 6.15.10, 6.16.1 or later: only the launch measurement says which kernel runs",
	},
	{
		ID: "AMD-SB-3024", Names: []string{"Battering RAM"}, Published: "2025-09",
		TEE: []string{"snp", "sgx"}, Class: Physical, What: "an interposer on DDR4 memory replays and aliases ciphertext",
		Source: "https://batteringram.eu/", Confidence: Memory,
		Unseen: PhysicalWords, Note: "vendors count it out of scope; the bulletin's id was not checked",
	},
	{
		ID: "AMD-SB-3027", Names: []string{"StackWarp"}, CVEs: []string{"CVE-2025-29943"}, Published: "2026-01-16",
		TEE: []string{"snp"}, Class: TCB, What: "the sibling thread corrupts the guest's stack pointer",
		Source: amdBulletin + "amd-sb-3027.html", Confidence: Derived,
		Fix: []Fix{
			{All: []Condition{{GuestPolicy, Clear, "16"}}},
			{Product: milan},
			{Product: genoa, CPU: "19-a"},
			{Product: genoa, CPU: "19-11-1", All: []Condition{{Microcode, AtLeast, "86"}}},
			{Product: genoa, CPU: "19-11-2", All: []Condition{{Microcode, AtLeast, "81"}}},
			{Product: turin, CPU: "1a-02-1", All: []Condition{{Microcode, AtLeast, "81"}}},
		},
		Note: "microcode 0x56, 0x51 and 0x51 as another project quotes the bulletin; a guest whose policy forbids SMT (bit 16 clear) has no sibling thread. AMD's CVE record names 9004, 8004, 9005 and embedded parts of all three",
	},
	{
		ID: "AMD-SB-3030", Names: []string{"BreakFAST"}, CVEs: []string{"CVE-2025-61971", "CVE-2025-61972"}, Published: "2026-05-13",
		TEE: []string{"snp"}, Class: TCB, What: "the host reroutes MMIO: guest integrity",
		Source: amdBulletin + "amd-sb-3030.html", Confidence: Derived,
		Fix: []Fix{
			{Product: milan, All: []Condition{{SNPSPL, AtLeast, "29"}, {Mitigation, Set, "4"}}},
		},
		Note: "MilanPI-SP3 1.0.0.J, GenoaPI 1.0.0.H, TurinPI 1.0.0.8 in AMD's CVE record; SPL 0x1D and bit 4 for Milan as other projects quote the bulletin",
	},
	{
		ID: "AMD-SB-3034", Names: []string{"Fabricked"}, CVEs: []string{"CVE-2025-54510"}, Published: "2026-04-16",
		TEE: []string{"snp"}, Class: TCB, What: "malicious firmware of the machine reroutes the fabric: the RMP is the attacker's",
		Source: amdBulletin + "amd-sb-3034.html", Confidence: Derived,
		Fix: []Fix{
			{Product: milan, All: []Condition{{Mitigation, Set, "4"}}},
		},
		Note: "AMD took the TCB values out of the bulletin in September 2026, so none counts here; bit 4 for Milan as another project quotes it. MilanPI-SP3 1.0.0.J, GenoaPI 1.0.0.H, TurinPI 1.0.0.8 in AMD's CVE record",
	},
	{
		ID: "CVE-2025-54502", CVEs: []string{"CVE-2025-54502"}, Published: "2026-04-16",
		TEE: []string{"snp"}, Class: TCB, What: "a resource of the processor is exposed to the wrong sphere",
		Source: "https://www.cve.org/CVERecord?id=CVE-2025-54502", Confidence: Vendor,
		Unseen: "MilanPI-SP3 1.0.0.J, GenoaPI 1.0.0.H, TurinPI-SP5 1.0.0.9 fix it, and AMD's record gives no level that a report shows",
	},
	{
		ID: "AMD-SB-3039", CVEs: []string{"CVE-2025-54509"}, Published: "2026-06-09",
		TEE: []string{"snp"}, Product: []string{genoa, turin}, Class: TCB, What: "the IOMMU's registers make the secure processor's accesses incoherent: integrity",
		Source: amdBulletin + "amd-sb-3039.html", Confidence: Vendor,
		Unseen: "GenoaPI 1.0.0.H, TurinPI 1.0.0.8 fix it, and AMD's record gives no level that a report shows",
	},
	{
		ID: "MilanLaunch", Names: []string{"MilanLaunchy", "BadFuse"}, Published: "2026-05-13",
		TEE: []string{"snp"}, Product: []string{milan}, Class: TCB, What: "software alone reads the seed of a chip's VCEKs: reports forged at any TCB",
		Source: "https://arxiv.org/abs/2605.12990", Confidence: Derived,
		NoFix: "no fix is known: whoever once held the machine can forge its reports at any TCB; admit Milan by chip id of machines you own, or not",
		Note:  "another project quotes AMD-SB-3045 as asking for MilanPI 1.0.0.3 or later; later firmware does not take back a seed that was read",
	},
	{
		ID: "CVE-2026-31591", CVEs: []string{"CVE-2026-31591"}, Published: "2026",
		TEE: []string{"snp"}, Class: Guest, What: "KVM does not lock all vCPUs while an SNP launch finishes",
		Source: "https://www.cve.org/CVERecord?id=CVE-2026-31591", Confidence: Derived,
		Unseen: "the fault is in the host's kernel, which no report measures and nothing trusts",
	},
	{
		ID: "BadAML", Names: []string{"BadAML"}, Published: "2025",
		TEE: []string{"snp", "tdx"}, Class: Config, What: "ACPI tables that the host hands in run in the guest's kernel",
		Source: "https://github.com/edgelesssys/contrast", Confidence: Derived,
		Unseen: "fixed in the guest (tables that are measured, or an interpreter that is confined): only the launch measurement says what runs",
	},
}
