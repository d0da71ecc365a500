#!/bin/sh
# Say in one word how a Patroni member is: absent, stopped, healthy, or what is wrong with it.
# $1: address and port of its REST interface; $2: its data folder.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-120}" sh "$0" "$@"

if [ ! -e /etc/patroni/config.yml ] || [ ! -d "$2" ]; then
    echo absent
    exit 0
fi
state=$(systemctl show -p ActiveState --value patroni.service)
case $state in
active) ;;
[a-z]*)
    echo stopped
    exit 0
    ;;
*) echo "systemctl says no state of patroni.service ($state)" >&2; exit 1 ;;
esac
# Patroni may just have been started: its answer is waited for, but not for long.
now=$(date +%s)
end=$((now + 20))
while :; do
    state=$(python3 - "$1" <<'PYTHON'
import json
import ssl
import sys
import urllib.request

import yaml

with open("/etc/patroni/config.yml", encoding="utf-8") as file:
    control = yaml.safe_load(file)["ctl"]
address = sys.argv[1]
context = ssl.create_default_context(cafile=control["cacert"])
context.load_cert_chain(control["certfile"], control["keyfile"])
try:
    with urllib.request.urlopen(f"https://{address}/patroni", context=context, timeout=5) as r:
        answer = json.load(r)
except OSError as error:
    # Where TLS is refused, it goes by certificates of before a configuration that it has not read yet.
    refused = isinstance(getattr(error, "reason", error), ssl.SSLError)
    why = "it needs `systemctl reload patroni`" if refused else f"no answer: {error}"
    answer = json.load(error) if hasattr(error, "code") else {"state": why}
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
