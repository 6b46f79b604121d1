package main

// configTemplate is what config init writes. Lines that begin with "# " explain;
// those that begin with "#" alone are settings: taken out of their comment they
// make a valid configuration, which a test checks.
const configTemplate = `# What the Keep gives the workload beside this file, main.wasm. Every byte of this
# file is measured: changing it changes the workload digest.
# All keys: docs/workload.md. donjon config check says what it means.

# Run a part of donjon-keep in place of main.wasm: sealer. Only tee may stand beside
# it, so this is no setting here:
# builtin = "sealer"

# Parts that the workload can be run in; the host chooses one for each Keep
# (donjon run --role), the Keep shows it. Entries with role = "..." are there in
# that one alone.
#roles = ["client", "server"]

# Vendor data for judging other Keeps, beside what they bring along.
#collateral = ["vendor.json"]

# Arguments; the program's name stands before them.
#args = ["--greeting", "hello"]

# Let it run in these alone: snp, tdx, sgx, pef, vm, sim. vm and sim are no TEEs.
#tee = ["snp", "sim"]

# Let the warden write its log in words. A relying party sees that it does.
#debug_log = true

# The attestation service that gives this Keep its certificate and its secrets, and
# the authorities (a PEM file beside this one, the Steward's ca.pem) that it is known
# by. It must admit the workload, or nothing runs.
#steward = "https://steward.example"
#steward_ca = "steward-ca.pem"

# Environment.
#[env]
#LANG = "C.UTF-8"

# Limits; the host may set lower ones.
#[limits]
#memory = "256MiB"
#cpu_time = "10m"
#wall_time = "1h"
#output = "10MiB"

# Descriptors, numbered from 0 in this order. Without any [[files]] they are
# stdin, stdout and stderr; with one, only what stands here.
[[files]]
kind = "stdin"

[[files]]
kind = "stdout"

[[files]]
kind = "stderr"

# Connections that come in. prot: tls (ends in the Keep) or tcp. addr: default
# "::"; port: default 443 for tls, 80 for tcp.
#[[files]]
#kind = "listen"
#name = "web"
#prot = "tls"
#port = 8443
# Ask clients for a certificate of these authorities; client_auth: none, request
# or require; or any, without client_ca: a key that the client holds, named by nobody.
#client_ca = "clients.pem"
#client_auth = "require"
# Begin each connection with who the client is: a PROXY protocol header.
#peer_header = "proxy-v2"
# The Keep gives its evidence at /.well-known/donjon/evidence, beside a workload that
# speaks HTTP/1.1.
#evidence = true

# The same for other Keeps alone: those that the policy (docs/policy.md) admits. Each
# connection ends after max_age; default 24h.
#[[files]]
#kind = "listen"
#name = "keeps"
#prot = "tls"
#port = 8444
#attest = "peers.toml"
#max_age = "1h"

# One connection out. Without ca the peer must be known to Mozilla's roots.
#[[files]]
#kind = "connect"
#prot = "tls"
#host = "db.example"
#port = 5432
#ca = "db-ca.pem"

# One to another Keep: each verifies the other (docs/keep-to-keep.md).
#[[files]]
#kind = "connect"
#name = "peer"
#prot = "tls"
#host = "keep.example"
#port = 8444
#attest = "peers.toml"

# Measured, read-only files and folders.
#[[data]]
#path = "data"
#guest = "/data"

# Writable folders in the Keep's memory; size: default 64MiB.
#[[scratch]]
#guest = "/tmp"
#size = "64MiB"

# Folders of the host are not declared here but given on the command line, in sim
# alone and for development: donjon run --dir HOST::GUEST.

# Secrets that the Steward releases, each into a variable or a read-only file in a
# folder that nothing else uses.
#[[secrets]]
#name = "token"
#env = "TOKEN"

#[[secrets]]
#name = "db-key"
#file = "/secrets/db.key"
`
