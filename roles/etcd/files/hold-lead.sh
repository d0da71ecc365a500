#!/bin/sh
# While members of etcd are restarted, Patroni keeps the databases' lead where it is: a question of its
# that meets a member which is just ending would otherwise cost the lead, and writers half a minute.
# $1: hold or go. Says `held` when it was not held before; says nothing on a host without Patroni.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-120}" sh "$0" "$@"

state=$(systemctl show -p ActiveState --value patroni.service)
case $state in
active) ;;
[a-z]*) exit 0 ;;
*) echo "systemctl says no state of patroni.service ($state)" >&2; exit 1 ;;
esac
ctl() { patronictl -c /etc/patroni/config.yml "$@"; }
if [ "$1" = hold ]; then
    settings=$(ctl show-config)
    case $settings in
    *'pause: true'*) exit 0 ;;
    *loop_wait:*) ;;
    *) echo "patronictl says no settings ($settings)" >&2; exit 1 ;;
    esac
    ctl pause --wait >&2
    echo held
else
    ctl resume --wait >&2
fi
