-- +goose Up
-- The tables of migrations/sqlite, column for column: a backup of one is restored in the other.
CREATE TABLE state (
	id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
	log BYTEA NOT NULL,
	seq BIGINT NOT NULL,
	hash BYTEA NOT NULL,
	epoch BIGINT NOT NULL,
	opened BIGINT NOT NULL,
	reason TEXT COLLATE "C" NOT NULL,
	confirmed BIGINT NOT NULL,
	purged BIGINT NOT NULL
);
CREATE TABLE audit (
	seq BIGINT NOT NULL PRIMARY KEY,
	record BYTEA NOT NULL
);
CREATE TABLE decisions (
	seq BIGINT NOT NULL PRIMARY KEY,
	at BIGINT NOT NULL,
	workload TEXT COLLATE "C" NOT NULL,
	instance TEXT COLLATE "C" NOT NULL,
	tee TEXT COLLATE "C" NOT NULL,
	simulated BIGINT NOT NULL,
	outcome TEXT COLLATE "C" NOT NULL,
	code TEXT COLLATE "C" NOT NULL,
	tcb_status TEXT COLLATE "C" NOT NULL,
	platform TEXT COLLATE "C" NOT NULL,
	exposed TEXT COLLATE "C" NOT NULL,
	policy BIGINT NOT NULL,
	request TEXT COLLATE "C" NOT NULL,
	who TEXT COLLATE "C" NOT NULL,
	detail BYTEA
);
CREATE TABLE counts (
	hour BIGINT NOT NULL,
	tee TEXT COLLATE "C" NOT NULL,
	outcome TEXT COLLATE "C" NOT NULL,
	n BIGINT NOT NULL,
	PRIMARY KEY (hour, tee, outcome)
);
CREATE TABLE used (
	kind TEXT COLLATE "C" NOT NULL,
	digest BYTEA NOT NULL,
	expires BIGINT NOT NULL,
	PRIMARY KEY (digest, kind)
);
CREATE TABLE leases (
	workload TEXT COLLATE "C" NOT NULL,
	instance TEXT COLLATE "C" NOT NULL,
	until BIGINT NOT NULL,
	seq BIGINT NOT NULL,
	PRIMARY KEY (workload, instance)
);
CREATE TABLE signers (
	signer TEXT COLLATE "C" NOT NULL,
	name TEXT COLLATE "C" NOT NULL,
	version BIGINT NOT NULL,
	PRIMARY KEY (signer, name)
);
CREATE TABLE certificates (
	serial BYTEA NOT NULL,
	ca TEXT COLLATE "C" NOT NULL,
	workload TEXT COLLATE "C" NOT NULL,
	instance TEXT COLLATE "C" NOT NULL,
	not_before BIGINT NOT NULL,
	not_after BIGINT NOT NULL,
	seq BIGINT NOT NULL,
	PRIMARY KEY (serial)
);
CREATE TABLE workloads (
	digest TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	name TEXT COLLATE "C" NOT NULL,
	first_seen BIGINT NOT NULL,
	manifest BYTEA
);
CREATE TABLE policies (
	workload TEXT COLLATE "C" NOT NULL,
	version BIGINT NOT NULL,
	text BYTEA NOT NULL,
	digest BYTEA NOT NULL,
	at BIGINT NOT NULL,
	who TEXT COLLATE "C" NOT NULL,
	PRIMARY KEY (workload, version)
);
CREATE TABLE secrets (
	workload TEXT COLLATE "C" NOT NULL,
	name TEXT COLLATE "C" NOT NULL,
	version BIGINT NOT NULL,
	sealed BYTEA,
	key_id TEXT COLLATE "C" NOT NULL,
	policy BYTEA NOT NULL,
	at BIGINT NOT NULL,
	who TEXT COLLATE "C" NOT NULL,
	deleted BIGINT NOT NULL,
	PRIMARY KEY (workload, name, version)
);
CREATE TABLE confirmations (
	workload TEXT COLLATE "C" NOT NULL,
	name TEXT COLLATE "C" NOT NULL,
	version BIGINT NOT NULL,
	policy BYTEA NOT NULL,
	at BIGINT NOT NULL,
	who TEXT COLLATE "C" NOT NULL,
	mac BYTEA NOT NULL,
	key_id TEXT NOT NULL,
	PRIMARY KEY (workload, name, version, policy)
);
CREATE TABLE tokens (
	id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	name TEXT COLLATE "C" NOT NULL,
	hash BYTEA NOT NULL UNIQUE,
	scopes TEXT COLLATE "C" NOT NULL,
	created BIGINT NOT NULL,
	who TEXT COLLATE "C" NOT NULL,
	expires BIGINT NOT NULL,
	revoked BIGINT NOT NULL
);
CREATE TABLE kept (
	name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	data BYTEA NOT NULL,
	version BIGINT NOT NULL
);
CREATE TABLE heads (
	id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
	seq BIGINT NOT NULL,
	head BYTEA NOT NULL
);
CREATE INDEX decisions_at ON decisions (at);
CREATE INDEX decisions_workload ON decisions (workload, seq);
CREATE INDEX used_expires ON used (expires);
CREATE INDEX leases_until ON leases (until);
CREATE INDEX certificates_not_after ON certificates (not_after, serial);
CREATE INDEX certificates_instance ON certificates (workload, instance, not_after);
