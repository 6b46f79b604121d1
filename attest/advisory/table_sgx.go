package advisory

// Levels stand in Intel's signed TCB info, per FMSPC: 00606A000000 Ice Lake (evaluation
// 17 and 19), 00A067110000 Rocket Lake (17), 00906ED50000 Coffee Lake (19),
// 90806F000000 Sapphire Rapids (19). "Fixed from" follows from them (the next level
// up no longer lists it, in any evaluation seen) and is Derived; a number counts for
// its FMSPC alone. CVEs stand in Intel's CVE records or CSAF files.
const intelAdvisory = "https://www.intel.com/content/www/us/en/security-center/advisory/"

var sgxRows = []Row{
	{
		ID:  "INTEL-SA-00106",
		TEE: []string{"sgx"}, Class: TCB, What: "speculation in the era of Spectre",
		Source: intelAdvisory + "intel-sa-00106.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID:  "INTEL-SA-00115",
		TEE: []string{"sgx"}, Class: TCB, What: "speculation in the era of Spectre variants 3a and 4",
		Source: intelAdvisory + "intel-sa-00115.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID:  "INTEL-SA-00135",
		TEE: []string{"sgx"}, Class: TCB, What: "processors of 2018",
		Source: intelAdvisory + "intel-sa-00135.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID:  "INTEL-SA-00203",
		TEE: []string{"sgx"}, Class: TCB, What: "not described in the sources read",
		Source: intelAdvisory + "intel-sa-00203.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{PCESVN, AtLeast, "7"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID: "INTEL-SA-00220", CVEs: []string{"CVE-2019-0123", "CVE-2019-0124"}, Published: "2019-11",
		TEE: []string{"sgx"}, Class: TCB, What: "protected memory subsystem",
		Source: intelAdvisory + "intel-sa-00220.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID: "INTEL-SA-00270", Names: []string{"TAA"}, CVEs: []string{"CVE-2019-11135"}, Published: "2019-11",
		TEE: []string{"sgx"}, Class: TCB, What: "TSX asynchronous abort leaks data",
		Source: intelAdvisory + "intel-sa-00270.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID:  "INTEL-SA-00293",
		TEE: []string{"sgx"}, Class: TCB, What: "not described in the sources read",
		Source: intelAdvisory + "intel-sa-00293.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
		},
		Note: "CVEs and what it is were checked against no source; only the oldest levels list it",
	},
	{
		ID: "INTEL-SA-00161", Names: []string{"Foreshadow", "L1TF"}, CVEs: []string{"CVE-2018-3615"}, Published: "2018-08-14",
		TEE: []string{"sgx"}, Class: TCB, What: "speculation reads the L1 data cache of an enclave",
		Source: intelAdvisory + "intel-sa-00161.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "20"}}},
		},
		Note: "Coffee Lake lists it up to component 17, and at 19 with component 6 at 0; hyper-threading counts too",
	},
	{
		ID: "INTEL-SA-00219", CVEs: []string{"CVE-2019-0117"}, Published: "2019-11-14",
		TEE: []string{"sgx"}, Class: Config, What: "processor graphics reaches enclave memory",
		Source: intelAdvisory + "intel-sa-00219.html", Confidence: Derived,
		Note: "Coffee Lake lists it at every level with component 6 at 0; levels with more are not all known",
	},
	{
		ID: "INTEL-SA-00233", Names: []string{"MDS", "ZombieLoad", "RIDL", "Fallout"}, CVEs: []string{"CVE-2018-12126", "CVE-2018-12127", "CVE-2018-12130", "CVE-2019-11091"}, Published: "2019-05-14",
		TEE: []string{"sgx"}, Class: TCB, What: "speculation samples buffers of the processor",
		Source: intelAdvisory + "intel-sa-00233.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "2"}}},
		},
	},
	{
		ID: "INTEL-SA-00289", Names: []string{"Plundervolt", "V0LTpwn"}, CVEs: []string{"CVE-2019-11157"}, Published: "2019-12-16",
		TEE: []string{"sgx"}, Class: Config, What: "software lowers the voltage until computations go wrong",
		Source: intelAdvisory + "intel-sa-00289.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00A067110000", All: []Condition{{SGXComp0, AtLeast, "11"}, {SGXComp6, AtLeast, "12"}}},
		},
		Note: "the BIOS must lock the overclocking mailbox: component 6; Rocket Lake lists it at 10 and below with component 6 set too",
	},
	{
		ID: "INTEL-SA-00320", Names: []string{"CrossTalk", "SRBDS"}, CVEs: []string{"CVE-2020-0543"}, Published: "2020-06",
		TEE: []string{"sgx"}, Class: TCB, What: "special register reads leak between cores",
		Source: intelAdvisory + "intel-sa-00320.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "15"}}},
		},
	},
	{
		ID: "INTEL-SA-00329", Names: []string{"SGAxe", "CacheOut", "L1DES"}, CVEs: []string{"CVE-2020-0549"}, Published: "2020-01-28",
		TEE: []string{"sgx"}, Class: TCB, What: "evicted cache lines leak; attestation keys were read so",
		Source: intelAdvisory + "intel-sa-00329.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "15"}}},
		},
	},
	{
		ID: "INTEL-SA-00334", Names: []string{"LVI", "load value injection"}, CVEs: []string{"CVE-2020-0551"}, Published: "2020-03-12",
		TEE: []string{"sgx"}, Class: Guest, What: "values injected into speculation of the enclave",
		Source: intelAdvisory + "intel-sa-00334.html", Confidence: Derived,
		Unseen: "fixed by how the enclave is compiled: no TCB level shows it",
	},
	{
		ID: "INTEL-SA-00381", CVEs: []string{"CVE-2020-8696", "CVE-2020-8698"}, Published: "2020-11-12",
		TEE: []string{"sgx"}, Class: TCB, What: "information is not removed before transfer",
		Source: intelAdvisory + "intel-sa-00381.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "16"}}},
		},
	},
	{
		ID: "INTEL-SA-00389", Names: []string{"PLATYPUS"}, CVEs: []string{"CVE-2020-8694", "CVE-2020-8695"}, Published: "2020-11-12",
		TEE: []string{"sgx"}, Class: TCB, What: "energy counters (RAPL) as a side channel",
		Source: intelAdvisory + "intel-sa-00389.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "10"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "16"}}},
		},
	},
	{
		ID: "INTEL-SA-00477", CVEs: []string{"CVE-2021-0001"}, Published: "2021-06-09",
		TEE: []string{"sgx"}, Class: TCB, What: "timing of the cryptography in PCE and quoting enclave",
		Source: intelAdvisory + "intel-sa-00477.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{PCESVN, AtLeast, "11"}}},
			{FMSPC: "00A067110000", All: []Condition{{PCESVN, AtLeast, "11"}}},
			{FMSPC: "00906ED50000", All: []Condition{{PCESVN, AtLeast, "11"}}},
		},
		Note: "trap: at PCESVN 10 Rocket Lake and Coffee Lake list it where component 6 is 0 and leave it out where it is not",
	},
	{
		ID: "INTEL-SA-00586", CVEs: []string{"CVE-2021-33117"}, Published: "2022-05-12",
		TEE: []string{"sgx"}, Class: TCB, What: "access control in the 3rd generation of Xeon Scalable",
		Source: intelAdvisory + "intel-sa-00586.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "7"}}},
		},
	},
	{
		ID: "INTEL-SA-00614", CVEs: []string{"CVE-2022-0005"}, Published: "2022-05-12",
		TEE: []string{"sgx"}, Class: Physical, What: "JTAG probing reads secrets",
		Source: intelAdvisory + "intel-sa-00614.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "7"}}},
			{FMSPC: "00A067110000", All: []Condition{{SGXComp0, AtLeast, "9"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "20"}}},
		},
	},
	{
		ID: "INTEL-SA-00617", CVEs: []string{"CVE-2022-21151"}, Published: "2022-05-12",
		TEE: []string{"sgx"}, Class: TCB, What: "an optimisation of the processor removes security-critical code",
		Source: intelAdvisory + "intel-sa-00617.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00A067110000", All: []Condition{{SGXComp0, AtLeast, "9"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "20"}}},
		},
	},
	{
		ID: "INTEL-SA-00615", Names: []string{"MMIO stale data"}, CVEs: []string{"CVE-2022-21123", "CVE-2022-21125", "CVE-2022-21127", "CVE-2022-21166"}, Published: "2022-06",
		TEE: []string{"sgx"}, Class: Guest, What: "stale data after MMIO writes",
		Source: intelAdvisory + "intel-sa-00615.html", Confidence: Derived,
		Unseen: "every level of the platforms seen lists it (SWHardeningNeeded): fixed by how the enclave is compiled, which no TCB level shows",
	},
	{
		ID: "INTEL-SA-00657", Names: []string{"AEPIC Leak"}, CVEs: []string{"CVE-2022-21233"}, Published: "2022-08",
		TEE: []string{"sgx"}, Class: TCB, What: "the APIC hands out stale data of enclaves",
		Source: intelAdvisory + "intel-sa-00657.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00A067110000", All: []Condition{{SGXComp0, AtLeast, "10"}}},
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "16"}, {SGXComp6, AtLeast, "1"}}},
		},
		Note: "trap: Ice Lake lists it at component 15 with component 6 at 1, having left it out at 14 in an older evaluation",
	},
	{
		ID: "INTEL-SA-00767", CVEs: []string{"CVE-2022-38090"}, Published: "2023-02",
		TEE: []string{"sgx"}, Class: TCB, What: "shared resources leak from enclaves",
		Source: intelAdvisory + "intel-sa-00767.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00A067110000", All: []Condition{{SGXComp0, AtLeast, "10"}}},
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "16"}, {SGXComp6, AtLeast, "1"}}},
		},
		Note: "levels as for INTEL-SA-00657",
	},
	{
		ID: "INTEL-SA-00730", CVEs: []string{"CVE-2022-33972"}, Published: "2023-02",
		TEE: []string{"sgx"}, Class: TCB, What: "a fault in the keying of microcode, 3rd generation of Xeon Scalable",
		Source: intelAdvisory + "intel-sa-00730.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "11"}}},
		},
	},
	{
		ID: "INTEL-SA-00738", CVEs: []string{"CVE-2022-33196"}, Published: "2023-02",
		TEE: []string{"sgx"}, Class: TCB, What: "memory controllers with wrong permissions",
		Source: intelAdvisory + "intel-sa-00738.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "11"}}},
		},
	},
	{
		ID: "INTEL-SA-00828", Names: []string{"Downfall", "GDS", "gather data sampling"}, CVEs: []string{"CVE-2022-40982"}, Published: "2023-08",
		TEE: []string{"sgx"}, Class: TCB, What: "gather instructions leak vector registers",
		Source: intelAdvisory + "intel-sa-00828.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "21"}}},
			{FMSPC: "00A067110000", All: []Condition{{SGXComp0, AtLeast, "11"}}},
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "12"}}},
		},
	},
	{
		ID: "INTEL-SA-00837", CVEs: []string{"CVE-2022-41804"}, Published: "2023-08",
		TEE: []string{"sgx", "tdx"}, Class: TCB, What: "error injection in SGX or TDX",
		Source: intelAdvisory + "intel-sa-00837.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "12"}}},
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "6"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{PCESVN, AtLeast, "11"}}},
			{FMSPC: "90C06F000000", All: []Condition{{PCESVN, AtLeast, "13"}}},
		},
	},
	{
		ID: "INTEL-SA-00950", Names: []string{"Reptar"}, CVEs: []string{"CVE-2023-23583"}, Published: "2023-11-14",
		TEE: []string{"sgx"}, Class: TCB, What: "a sequence of instructions behaves unexpectedly",
		Source: intelAdvisory + "intel-sa-00950.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen ever lists it",
	},
	{
		ID: "INTEL-SA-00960", CVEs: []string{"CVE-2023-22655"}, Published: "2024-03",
		TEE: []string{"sgx", "tdx"}, Class: TCB, What: "a protection mechanism fails on the 3rd and 4th generation of Xeon Scalable",
		Source: intelAdvisory + "intel-sa-00960.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "14"}}},
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "7"}}},
		},
	},
	{
		ID: "INTEL-SA-00982", CVEs: []string{"CVE-2023-38575"}, Published: "2024-03",
		TEE: []string{"sgx"}, Class: TCB, What: "return predictor shared between contexts",
		Source: intelAdvisory + "intel-sa-00982.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "7"}}},
		},
		Note: "what it is was checked against no source",
	},
	{
		ID: "INTEL-SA-00986", CVEs: []string{"CVE-2023-32666"}, Published: "2024-03",
		TEE: []string{"sgx"}, Class: TCB, What: "access control of the on-chip debug interface",
		Source: intelAdvisory + "intel-sa-00986.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "7"}}},
		},
		Note: "what it is was checked against no source",
	},
	{
		ID: "INTEL-SA-01079", CVEs: []string{"CVE-2024-21820", "CVE-2024-23918"}, Published: "2024-11-12",
		TEE: []string{"sgx", "tdx"}, Class: TCB, What: "memory controller configurations with SGX",
		Source: intelAdvisory + "intel-sa-01079.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "15"}}},
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
			{FMSPC: "90C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
		},
	},
	{
		ID: "INTEL-SA-01103", CVEs: []string{"CVE-2024-23984"}, Published: "2024-09-10",
		TEE: []string{"sgx", "tdx"}, Class: TCB, What: "energy counters (RAPL) as a side channel",
		Source: intelAdvisory + "intel-sa-01103.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "15"}}},
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
			{FMSPC: "90C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
		},
	},
	{
		ID: "INTEL-SA-01111", CVEs: []string{"CVE-2024-24985", "CVE-2024-22185"}, Published: "2024-11-12",
		TEE: []string{"sgx", "tdx"}, Class: TCB, What: "the alias checking module (ACTM)",
		Source: intelAdvisory + "intel-sa-01111.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "90806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}}},
			{FMSPC: "50806F000000", All: []Condition{{SGXComp0, AtLeast, "8"}}},
			{FMSPC: "B0C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
			{FMSPC: "90C06F000000", All: []Condition{{SGXComp0, AtLeast, "3"}}},
		},
	},
	{
		ID: "INTEL-SA-01153", Names: []string{"ITS", "indirect target selection"}, CVEs: []string{"CVE-2024-28956"}, Published: "2025-05-12",
		TEE: []string{"sgx"}, Class: TCB, What: "indirect branches in part of a cache line mispredict",
		Source: intelAdvisory + "intel-sa-01153.html", Confidence: Derived,
		Fix: []Fix{
			{FMSPC: "00606A000000", All: []Condition{{SGXComp0, AtLeast, "16"}}},
			{FMSPC: "00906ED50000", All: []Condition{{SGXComp0, AtLeast, "22"}}},
		},
	},
	{
		ID: "INTEL-SA-01213", CVEs: []string{"CVE-2024-36293"}, Published: "2025-02-11",
		TEE: []string{"sgx"}, Class: TCB, What: "EDECCSSA: denial of service",
		Source: intelAdvisory + "intel-sa-01213.html", Confidence: Vendor,
		Unseen: "no TCB info that was seen lists it",
	},
	{
		ID: "INTEL-SA-01188", CVEs: []string{"CVE-2024-34776"}, Published: "2024-11-12",
		TEE: []string{"sgx"}, Class: Guest, What: "the SGX SDK for Linux before 2.24: a write out of bounds",
		Source: intelAdvisory + "intel-sa-01188.html", Confidence: Vendor,
		Unseen: "the enclave carries the SDK in itself: no TCB level shows it",
	},
	{
		ID: "INTEL-SA-01383", CVEs: []string{"CVE-2025-32004"}, Published: "2025-08-12",
		TEE: []string{"sgx"}, Class: Guest, What: "the SGX SDK, Edger8r: arrays indexed by booleans",
		Source: intelAdvisory + "intel-sa-01383.html", Confidence: Vendor,
		Unseen: "the enclave carries the SDK in itself: no TCB level shows it",
	},
}
