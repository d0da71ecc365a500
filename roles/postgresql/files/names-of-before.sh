#!/bin/sh
# Say of the names server.key and server.crt: `none` when they are not there, `of before` while the
# running Patroni was started before they became links (or they are none yet), `left over` after that.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-60}" sh "$0" "$@"

name=/etc/patroni/tls/server.crt
if ! [ -e "$name" ] && ! [ -L "$name" ]; then
    echo none
    exit 0
fi
began=$(systemctl show --timestamp=unix -P ExecMainStartTimestamp patroni.service)
case $began in
# It was never started.
'') began=@0 ;;
@*[!0-9]* | @ | [!@]*) echo "systemctl says no moment for patroni.service ($began)" >&2; exit 1 ;;
esac
made=$(stat -c %Y "$name")
case $made in *[!0-9]*) echo "stat says no moment for $name ($made)" >&2; exit 1 ;; esac
if ! [ -L "$name" ] || [ "$made" -ge "${began#@}" ]; then
    echo 'of before'
else
    echo 'left over'
fi
