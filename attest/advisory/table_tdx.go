package advisory

// FMSPCs: 50806F000000 Sapphire Rapids (evaluation 18), B0C06F000000 Emerald Rapids
// (17, 18, 20), 90C06F000000 (18). Rows that SGX and TDX share are in table_sgx.go.
// Where two major versions of the TDX module run on one platform there is one fix
// each; a module of another major version cannot be told.
var tdxRows = []Row{
	{
		ID: "INTEL-SA-01010", CVEs: []string{"CVE-2024-39283"}, Published: "2024-08-13",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module before 1.5.01.00.592 filters special elements incompletely",
		Source: intelAdvisory + "intel-sa-01010.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "50806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}}},
		},
	},
	{
		ID:  "INTEL-SA-01036",
		TEE: []string{"tdx"}, Class: Module, What: "TDX module and platform; not among the CSAF files",
		Source: intelAdvisory + "intel-sa-01036.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "50806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}, {Module01, AtLeast, "6"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}, {Module01, AtLeast, "6"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}, {Module03, AtLeast, "3"}}},
			{FMSPC: "90C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}, {Module01, AtLeast, "6"}}},
		},
		Note: "CVEs unknown",
	},
	{
		ID: "INTEL-SA-01070", CVEs: []string{"CVE-2024-21801"}, Published: "2024-08-13",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module before 1.5.05.46.698: denial of service",
		Source: intelAdvisory + "intel-sa-01070.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01076", CVEs: []string{"CVE-2024-21850"}, Published: "2024-11-12",
		TEE: []string{"tdx"}, Class: Module, What: "the SEAM loader before 1.5.02.00: old content is not removed",
		Source: intelAdvisory + "intel-sa-01076.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "50806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}, {TDXComp2, AtLeast, "8"}}},
		},
	},
	{
		ID: "INTEL-SA-01099", Names: []string{"TDXdown"}, CVEs: []string{"CVE-2024-27457"}, Published: "2024-10-08",
		TEE: []string{"tdx"}, Class: Module, What: "single-stepping of a TD, and a count of instructions that leaks",
		Source: intelAdvisory + "intel-sa-01099.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "50806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}, {Module01, AtLeast, "6"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}, {Module01, AtLeast, "6"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}, {Module03, AtLeast, "3"}}},
			{FMSPC: "90C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}, {Module01, AtLeast, "6"}}},
		},
		Note: "module 1.5.06 in Intel's CSAF file; module ISVSVN 6 in the TCB info",
	},
	{
		ID: "INTEL-SA-01192", CVEs: []string{"CVE-2024-33607"}, Published: "2025-08-12",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module before 1.5.07.00.774",
		Source: intelAdvisory + "intel-sa-01192.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}, {Module01, AtLeast, "11"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}, {Module03, AtLeast, "3"}}},
		},
		Note: "TCB info of evaluation 20",
	},
	{
		ID: "INTEL-SA-01245", CVEs: []string{"CVE-2025-20044"}, Published: "2025-08-12",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module before 1.5.13: locking",
		Source: intelAdvisory + "intel-sa-01245.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}, {Module01, AtLeast, "11"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}, {Module03, AtLeast, "5"}}},
		},
		Note: "TCB info of evaluation 20",
	},
	{
		ID: "INTEL-SA-01312", CVEs: []string{"CVE-2025-21096", "CVE-2025-22853", "CVE-2025-20613"}, Published: "2025-08-12",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module",
		Source: intelAdvisory + "intel-sa-01312.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}, {Module01, AtLeast, "11"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}, {Module03, AtLeast, "5"}}},
		},
		Note: "TCB info of evaluation 20",
	},
	{
		ID: "INTEL-SA-01313", CVEs: []string{"CVE-2025-24305", "CVE-2025-21090", "CVE-2025-20053"}, Published: "2025-08-12",
		TEE: []string{"tdx"}, Class: TCB, What: "Xeon firmware: alias checking module, SGX buffers",
		Source: intelAdvisory + "intel-sa-01313.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "B0C06F000000", All: []Condition{{TDXComp2, AtLeast, "4"}}},
		},
		Note: "TCB info of evaluation 20",
	},
	{
		ID: "INTEL-SA-01314", CVEs: []string{"CVE-2025-22885"}, Published: "2026-02-10",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module: buffer restrictions",
		Source: intelAdvisory + "intel-sa-01314.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01397", CVEs: []string{"CVE-2025-30513", "CVE-2025-32467", "CVE-2025-27572", "CVE-2025-31944", "CVE-2025-32007", "CVE-2025-27940"}, Published: "2026-02-10",
		TEE: []string{"tdx"}, Class: Module, What: "the TDX module before 1.5.24: races and reads out of bounds",
		Source: intelAdvisory + "intel-sa-01397.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01404", Published: "2026-08-11",
		TEE: []string{"tdx"}, Class: TCB, What: "not described in the sources read",
		Source: intelAdvisory + "intel-sa-01404.html", Confidence: Memory,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01436", Published: "2026-08-11",
		TEE: []string{"tdx"}, Class: TCB, What: "not described in the sources read",
		Source: intelAdvisory + "intel-sa-01436.html", Confidence: Memory,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01268", CVEs: []string{"CVE-2024-48869"}, Published: "2025-05-13",
		TEE: []string{"tdx", "sgx"}, Class: TCB, What: "software interfaces to hardware features, Xeon 6 with E-cores",
		Source: intelAdvisory + "intel-sa-01268.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01311", CVEs: []string{"CVE-2025-22889"}, Published: "2025-08-12",
		TEE: []string{"tdx"}, Class: TCB, What: "protected memory ranges overlap, Xeon 6 with TDX",
		Source: intelAdvisory + "intel-sa-01311.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01367", CVEs: []string{"CVE-2025-32086", "CVE-2025-26403"}, Published: "2025-08-12",
		TEE: []string{"tdx", "sgx"}, Class: TCB, What: "memory subsystem of Xeon 6 with SGX or TDX",
		Source: intelAdvisory + "intel-sa-01367.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01409", CVEs: []string{"CVE-2025-9612", "CVE-2025-9613", "CVE-2025-9614"}, Published: "2025-12-09",
		TEE: []string{"tdx"}, Class: TCB, What: "TDX Connect: PCIe IDE packets replayed or reordered",
		Source: intelAdvisory + "intel-sa-01409.html", Confidence: Derived,
		Unseen: "no TCB info that was seen lists it",
	},
}
