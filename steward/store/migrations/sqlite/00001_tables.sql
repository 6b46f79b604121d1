-- +goose Up
-- Times are microseconds since 1970, UTC; 0: none. Store.go says what the rest means.
CREATE TABLE state (
	id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
	log BLOB NOT NULL,
	seq INTEGER NOT NULL,
	hash BLOB NOT NULL,
	epoch INTEGER NOT NULL,
	opened INTEGER NOT NULL,
	reason TEXT NOT NULL,
	confirmed INTEGER NOT NULL,
	purged INTEGER NOT NULL
) STRICT;
CREATE TABLE audit (
	seq INTEGER NOT NULL PRIMARY KEY,
	record BLOB NOT NULL
) STRICT;
CREATE TABLE decisions (
	seq INTEGER NOT NULL PRIMARY KEY,
	at INTEGER NOT NULL,
	workload TEXT NOT NULL,
	instance TEXT NOT NULL,
	tee TEXT NOT NULL,
	simulated INTEGER NOT NULL,
	outcome TEXT NOT NULL,
	code TEXT NOT NULL,
	tcb_status TEXT NOT NULL,
	platform TEXT NOT NULL,
	exposed TEXT NOT NULL,
	policy INTEGER NOT NULL,
	request TEXT NOT NULL,
	who TEXT NOT NULL,
	detail BLOB
) STRICT;
CREATE TABLE counts (
	hour INTEGER NOT NULL,
	tee TEXT NOT NULL,
	outcome TEXT NOT NULL,
	n INTEGER NOT NULL,
	PRIMARY KEY (hour, tee, outcome)
) STRICT, WITHOUT ROWID;
CREATE TABLE used (
	kind TEXT NOT NULL,
	digest BLOB NOT NULL,
	expires INTEGER NOT NULL,
	PRIMARY KEY (digest, kind)
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
	workload TEXT NOT NULL,
	instance TEXT NOT NULL,
	until INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	PRIMARY KEY (workload, instance)
) STRICT, WITHOUT ROWID;
CREATE TABLE signers (
	signer TEXT NOT NULL,
	name TEXT NOT NULL,
	version INTEGER NOT NULL,
	PRIMARY KEY (signer, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE certificates (
	serial BLOB NOT NULL,
	ca TEXT NOT NULL,
	workload TEXT NOT NULL,
	instance TEXT NOT NULL,
	not_before INTEGER NOT NULL,
	not_after INTEGER NOT NULL,
	seq INTEGER NOT NULL,
	PRIMARY KEY (serial)
) STRICT, WITHOUT ROWID;
CREATE TABLE workloads (
	digest TEXT NOT NULL PRIMARY KEY,
	name TEXT NOT NULL,
	first_seen INTEGER NOT NULL,
	manifest BLOB
) STRICT;
CREATE TABLE policies (
	workload TEXT NOT NULL,
	version INTEGER NOT NULL,
	text BLOB NOT NULL,
	digest BLOB NOT NULL,
	at INTEGER NOT NULL,
	who TEXT NOT NULL,
	PRIMARY KEY (workload, version)
) STRICT;
CREATE TABLE secrets (
	workload TEXT NOT NULL,
	name TEXT NOT NULL,
	version INTEGER NOT NULL,
	sealed BLOB,
	key_id TEXT NOT NULL,
	policy BLOB NOT NULL,
	at INTEGER NOT NULL,
	who TEXT NOT NULL,
	deleted INTEGER NOT NULL,
	PRIMARY KEY (workload, name, version)
) STRICT;
CREATE TABLE confirmations (
	workload TEXT NOT NULL,
	name TEXT NOT NULL,
	version INTEGER NOT NULL,
	policy BLOB NOT NULL,
	at INTEGER NOT NULL,
	who TEXT NOT NULL,
	mac BLOB NOT NULL,
	key_id TEXT NOT NULL,
	PRIMARY KEY (workload, name, version, policy)
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
	id TEXT NOT NULL PRIMARY KEY,
	name TEXT NOT NULL,
	hash BLOB NOT NULL UNIQUE,
	scopes TEXT NOT NULL,
	created INTEGER NOT NULL,
	who TEXT NOT NULL,
	expires INTEGER NOT NULL,
	revoked INTEGER NOT NULL
) STRICT;
CREATE TABLE kept (
	name TEXT NOT NULL PRIMARY KEY,
	data BLOB NOT NULL,
	version INTEGER NOT NULL
) STRICT;
CREATE TABLE heads (
	id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
	seq INTEGER NOT NULL,
	head BLOB NOT NULL
) STRICT;
CREATE INDEX decisions_at ON decisions (at);
CREATE INDEX decisions_workload ON decisions (workload, seq);
CREATE INDEX used_expires ON used (expires);
CREATE INDEX leases_until ON leases (until);
CREATE INDEX certificates_not_after ON certificates (not_after, serial);
CREATE INDEX certificates_instance ON certificates (workload, instance, not_after);
