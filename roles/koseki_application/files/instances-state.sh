#!/bin/sh
# Say which instances were started before their unit was what it is now: a run that was broken off
# after it wrote the unit has started none anew.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-120}" sh "$0" "$@"

unit=/etc/systemd/system/koseki-application@.service
[ -e "$unit" ] || exit 0
written=$(stat -c %Y "$unit")
case $written in *[!0-9]*) echo "stat says no moment for $unit ($written)" >&2; exit 1 ;; esac
units=$(systemctl list-units --plain --no-legend --state=active 'koseki-application@*.service')
while read -r name _; do
    case $name in
    '') continue ;;
    koseki-application@*.service) ;;
    *) echo "systemctl lists no instance ($name)" >&2; exit 1 ;;
    esac
    since=$(systemctl show --property=ActiveEnterTimestamp --timestamp=unix --value "$name")
    case $since in
    # It ended meanwhile, and whoever starts it takes the unit as it is.
    '') continue ;;
    @*[!0-9]* | @ | [!@]*) echo "systemctl says no moment for $name ($since)" >&2; exit 1 ;;
    esac
    if [ "${since#@}" -lt "$written" ]; then echo "$name"; fi
done <<END
$units
END
