#!/bin/sh
# Say which instances were started before their unit was what it is now: a run that was broken off
# after it wrote the unit has started none anew.
set -eu

unit=/etc/systemd/system/koseki-application@.service
[ -e "$unit" ] || exit 0
written=$(stat -c %Y "$unit")
systemctl list-units --plain --no-legend --state=active 'koseki-application@*.service' |
    while read -r name _; do
        since=$(systemctl show --property=ActiveEnterTimestamp --timestamp=unix --value "$name")
        if [ "${since#@}" -lt "$written" ]; then echo "$name"; fi
    done
