package advisory

// Attacks on memory buses, on how evidence is used, and on PEF.
var otherRows = []Row{
	{
		ID: "WireTap", Names: []string{"WireTap"}, Published: "2025-10",
		TEE: []string{"sgx"}, Class: Physical, What: "an interposer on DDR4 memory reads the DCAP attestation key",
		Source: "https://wiretap.fail/", Confidence: Memory, Unseen: PhysicalWords,
		Note: "whoever has the key forges quotes of that platform; pin the machines that are yours",
	},
	{
		ID: "TEE.fail", Names: []string{"TEE.fail"}, Published: "2025-10",
		TEE: []string{"sgx", "tdx", "snp"}, Class: Physical, What: "an interposer on DDR5 memory reads keys, under ciphertext hiding too",
		Source: "https://tee.fail/", Confidence: Memory, Unseen: PhysicalWords,
		Note: "vendors count it out of scope",
	},
	{
		ID: "Identity-Crisis", Names: []string{"Identity Crisis"}, Published: "2026",
		TEE: []string{"snp", "tdx", "sgx"}, Class: Protocol, What: "evidence in a certificate (RA-TLS) is replayed, or a connection diverted to another Keep",
		Source: "https://doi.org/10.1145/3779208.3785387", Confidence: Derived,
		Note: "fixed by evidence made for the verifier's nonce and bound to the connection after the handshake (RFC 9261, RFC 5705)",
	},
	{
		ID: "Intra-handshake.fail", Names: []string{"Intra-handshake.fail"}, Published: "2026",
		TEE: []string{"snp", "tdx", "sgx"}, Class: Protocol, What: "evidence inside the handshake does not say which connection it was made for",
		Source: "https://github.com/edgelesssys/contrast/issues/2524", Confidence: Derived,
		Note: "as for Identity-Crisis",
	},
	{
		ID: "CVE-2026-33697", Names: []string{"Cocos aTLS"}, CVEs: []string{"CVE-2026-33697"}, Published: "2026",
		TEE: []string{"snp", "tdx"}, Class: Protocol, What: "attested TLS of Cocos AI 0.4.0 to before 0.8.2 can be relayed",
		Source: "https://www.cve.org/CVERecord?id=CVE-2026-33697", Confidence: Derived,
		Unseen: "fixed in Cocos AI 0.8.2: evidence does not say which software speaks the protocol",
	},
	{
		ID: "CVE-2021-20487", CVEs: []string{"CVE-2021-20487"}, Published: "2021",
		TEE: []string{"pef"}, Class: Config, What: "the self-boot engine's check of the host's firmware can be defeated",
		Source: "https://www.cve.org/CVERecord?id=CVE-2021-20487", Confidence: Derived,
		Unseen: "FW930, FW940, FW941 and OP940 levels fix it; PEF has no evidence that a verifier could read them from",
	},
	{
		ID: "CVE-2020-4788", CVEs: []string{"CVE-2020-4788"}, Published: "2020-11",
		TEE: []string{"pef"}, Class: TCB, What: "POWER9 speculates on the first level data cache",
		Source: "https://www.cve.org/CVERecord?id=CVE-2020-4788", Confidence: Derived,
		Unseen: "firmware and kernel fix it; PEF has no evidence that a verifier could read them from",
	},
}
