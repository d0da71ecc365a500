#!/bin/sh
# Say as JSON whether an instance or an engine still runs in this host's own network, and which of
# these units do not run, or would not after a boot.
set -eu

outside=false
own=$(stat -Lc %i /proc/1/ns/net)
for pid in $(systemctl show --property=MainPID --value 'koseki-application@*.service' \
    'koseki-link@*.service'); do
    # One that ends meanwhile is nowhere.
    if [ "$(stat -Lc %i "/proc/$pid/ns/net" 2>/dev/null)" = "$own" ]; then outside=true; fi
done
resting=
for unit in "$@"; do
    state=$(systemctl show --property=ActiveState,UnitFileState --value "$unit" | paste -sd' ')
    if [ "$state" != 'active enabled' ]; then resting="$resting${resting:+, }\"$unit\""; fi
done
printf '{"outside": %s, "resting": [%s]}\n' "$outside" "$resting"
