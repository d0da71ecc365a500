#!/bin/sh
# Say of the names server.key and server.crt: `none` when they are not there, `of before` while the
# running Patroni was started before they became links (or they are none yet), `left over` after that.
set -eu

name=/etc/patroni/tls/server.crt
if ! [ -e "$name" ] && ! [ -L "$name" ]; then
    echo none
    exit 0
fi
began=$(systemctl show --timestamp=unix -P ExecMainStartTimestamp patroni.service)
made=$(stat -c %Y "$name")
if ! [ -L "$name" ] || [ "$made" -ge "${began#@}" ]; then
    echo 'of before'
else
    echo 'left over'
fi
