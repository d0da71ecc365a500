#!/bin/sh
# While members of etcd are restarted, Patroni keeps the databases' lead where it is: a question of its
# that meets a member which is just ending would otherwise cost the lead, and writers half a minute.
# $1: hold or go. Says `held` when it was not held before; says nothing on a host without Patroni.
set -eu

if ! systemctl is-active --quiet patroni.service; then exit 0; fi
ctl() { patronictl -c /etc/patroni/config.yml "$@"; }
if [ "$1" = hold ]; then
    if ctl show-config | grep -qx 'pause: true'; then exit 0; fi
    ctl pause --wait >&2
    echo held
else
    ctl resume --wait >&2
fi
