#!/bin/sh
# Restart this etcd member when every member is well, and wait until every one is well again: two of
# three must be, and systemd's word that one has started says nothing of the others.
# $1: endpoints of all members, by commas; $2: authority; $3: certificate; $4: its key.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-300}" sh "$0" "$@"

until_all_are_well() {
    now=$(date +%s)
    end=$((now + 60))
    until said=$(etcdctl --endpoints="$1" --cacert="$2" --cert="$3" --key="$4" endpoint health 2>&1); do
        now=$(date +%s)
        if [ "$now" -ge "$end" ]; then
            printf '%s\n%s\n' "$said" "etcd is not healthy $5: see journalctl -u etcd on the member that is named" >&2
            exit 1
        fi
        sleep 1
    done
}

until_all_are_well "$@" "before this member's restart, so it was not restarted"
systemctl restart etcd.service
until_all_are_well "$@" "after this member's restart"
