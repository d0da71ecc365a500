#!/bin/sh
# Say whether this host still trusts as it did when one authority certified everybody: yes or no.
# $1: the authority that was the only one; $2: the cluster's own; $3: what is trusted meanwhile.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-30}" sh "$0" "$@"

if [ -e "$3" ] || { [ -e "$1" ] && ! [ -e "$2" ]; }; then echo yes; else echo no; fi
