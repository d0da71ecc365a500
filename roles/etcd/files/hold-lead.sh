#!/bin/sh
# While members of etcd are restarted, Patroni keeps the databases' lead where it is: a question of its
# that meets a member which is just ending would otherwise cost the lead, and writers half a minute.
# $1: hold or go. Says `held` when it was not held before; says nothing on a host without Patroni.
set -eu

state=$(systemctl show -p ActiveState --value patroni.service)
if [ "$state" != active ]; then exit 0; fi
ctl() { patronictl -c /etc/patroni/config.yml "$@"; }
if [ "$1" = hold ]; then
    settings=$(ctl show-config)
    case $settings in *'pause: true'*) exit 0 ;; esac
    ctl pause --wait >&2
    echo held
else
    ctl resume --wait >&2
fi
