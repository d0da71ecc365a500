#!/bin/sh
# Say which of these units do not run, or would not after a boot; nothing when all do.
set -eu

for unit in "$@"; do
    state=$(systemctl show --property=ActiveState,UnitFileState --value "$unit")
    if [ "$state" != 'active
enabled' ]; then echo "$unit"; fi
done
