#!/bin/sh
# Say in one word how a Patroni member is: absent, stopped, healthy, or what is wrong with it.
# $1: address and port of its REST interface; $2: its data folder.
set -eu

if [ ! -e /etc/patroni/config.yml ] || [ ! -d "$2" ]; then
    echo absent
    exit 0
fi
state=$(systemctl show -p ActiveState --value patroni.service)
if [ "$state" != active ]; then
    echo stopped
    exit 0
fi
tls=/etc/patroni/tls
# Patroni may just have been started: its answer is waited for, but not for long.
now=$(date +%s)
end=$((now + 20))
while :; do
    state=$(python3 - "$1" "$tls" <<'PYTHON'
import json
import ssl
import sys
import urllib.request

address, tls = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/koseki/pki/ca.crt")
context.load_cert_chain(f"{tls}/server.crt", f"{tls}/server.key")
try:
    with urllib.request.urlopen(f"https://{address}/patroni", context=context, timeout=5) as r:
        answer = json.load(r)
except OSError as error:
    answer = json.load(error) if hasattr(error, "code") else {"state": f"no answer: {error}"}
state = answer["state"]
print("healthy" if state in ("running", "streaming") else state)
PYTHON
    )
    now=$(date +%s)
    if [ "$state" = healthy ] || [ "$now" -ge "$end" ]; then
        echo "$state"
        exit 0
    fi
    sleep 2
done
