#!/bin/sh
# Say which of these units do not run, or would not after a boot; nothing when all do.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-120}" sh "$0" "$@"

for unit in "$@"; do
    state=$(systemctl show --property=ActiveState,UnitFileState --value "$unit")
    case $state in
    [a-z]*) ;;
    *) echo "systemctl says no state of $unit ($state)" >&2; exit 1 ;;
    esac
    if [ "$state" != 'active
enabled' ]; then echo "$unit"; fi
done
