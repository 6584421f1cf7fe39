#!/bin/bash
# Install the Debian packages that a list names, one a line, "#" comments. Does
# nothing when all are there.
# usage: install-packages.sh LIST
set -eu
mapfile -t want < <(sed 's/#.*//; s/[[:space:]]*$//; /^$/d' "$1")
missing=()
for p in "${want[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" != 0 ]; then
	echo "not root, and these Debian packages are missing: ${missing[*]}; run: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# The tests bring configurations of their own: Postfix is to serve nothing by
# itself, and another mail server of this machine is not to be removed for it.
command -v debconf-set-selections >/dev/null &&
	echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
apt-get install -y -qq --no-install-recommends --no-remove "${missing[@]}" >/dev/null
