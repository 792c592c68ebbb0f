#!/usr/bin/env bash
# Installs the PostgreSQL server binaries on Debian or Ubuntu, and no more: the
# package would also make a cluster and start it at every boot, which nobody
# here uses.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
	echo "setup: no PostgreSQL server binaries (initdb) and no apt-get here: install PostgreSQL 15 or newer, or give --postgres" >&2
	exit 1
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
	root=(sudo)
fi
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y)

echo "setup: installing the PostgreSQL server binaries (Debian package postgresql)" >&2
"${apt[@]}" update
"${apt[@]}" install --no-install-recommends postgresql-common
"${root[@]}" sed -i -E 's/^#?create_main_cluster.*/create_main_cluster = false/' /etc/postgresql-common/createcluster.conf
"${apt[@]}" install --no-install-recommends postgresql
