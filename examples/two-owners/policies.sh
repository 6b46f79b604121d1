#!/bin/sh
# policies.sh FOLDER HELLO: writes alice.toml and bob.toml into FOLDER, for Keeps of this
# machine and this donjon. A Keep is run once (HELLO: any workload) and what it shows is
# taken; whether that is the donjon-keep you want, donjon image measure tells.
#
# On two machines run it on both, and give each owner's Keep the policy that was written
# where the other's will run. Both files are part of the workload: both sides must have
# the same two.
set -eu
folder=${1:?usage: policies.sh FOLDER HELLO} hello=${2:?usage: policies.sh FOLDER HELLO}
donjon=${DONJON:-donjon}
shown=$(mktemp)
trap 'rm -f "$shown"' EXIT
"$donjon" run -q --tee "${TEE:-sim}" --evidence "$shown" "$hello" > /dev/null
for role in alice bob; do
	"$donjon" policy init --from "$shown" |
		sed -e '/^freshness = /d' -e "s/^workloads = .*/same_workload = true\npeer_role = \"$role\"\ntime = \"host\" # there is no Steward here/" > "$folder/$role.toml"
done
