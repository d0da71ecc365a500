#!/bin/sh
# shellcheck disable=SC3045 # Debian's sh is dash, whose ulimit knows these limits
# shellcheck disable=SC2086 # lists of paths and of find's tests are split on purpose
# shellcheck disable=SC2016 # dpkg-query's own fields
# shellcheck disable=SC2154 # the head that the controller writes assigns them
# The probe: everything a sweep wants to know of a host, in one program and one stream.
#
# POSIX shell, coreutils, findutils and awk; nothing is written anywhere. Assigned before it:
# by who asks, mark (a word that nobody on the host knows), key (for hashes of secrets), patience
# (how many times as long as usual each part may take) and extra; by the policy, roots, programs,
# units, pruned, volatile, secrets (find expressions), kernel (files below /proc/sys).
# Each part begins and ends with a line that holds the mark; the end line has the exit code.
set -uf
umask 077
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH
unset LANGUAGE POSIXLY_CORRECT
# No program of the probe may grow or run without end.
ulimit -S -v 524288
ulimit -t $((20 * patience))
ulimit -c 0
if command -v ionice >/dev/null; then ionice -c 3 -p $$; fi

part() {
    printf '%s begin %s\n' "$mark" "$1"
    printf '%s begin %s\n' "$mark" "$1" >&2
    "part_$1"
    printf '\n%s end %s %s\n' "$mark" "$1" "$?"
}
# What of a list of paths is there, so that find(1) has nothing to complain about.
there() {
    found=
    for path in "$@"; do
        if [ -e "$path" ] || [ -L "$path" ]; then found="$found $path"; fi
    done
}
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups -- "$@"; }

part_host() {
    date +%s.%N
    cat /proc/uptime
    if [ -e /run/systemd/container ]; then cat /run/systemd/container; else echo -; fi
    df -P -k -l | awk 'NR > 1 { print $4, $2, $6 }'
}
part_mark() {
    # The first is the baseline's mark by its former name.
    for path in /var/lib/koseki/applied-ground /var/lib/koseki/applied-baseline /var/lib/koseki/applied-services; do
        if [ -e "$path" ]; then printf '%s ' "${path##*-}" && cat "$path"; fi
    done
}
# Type, mode, owner, group; link target; path.
part_files() {
    there $roots $extra $homes
    timeout $((10 * patience)) find $found -ignore_readdir_race -xdev $pruned -printf '%y\t%m\t%u\t%g\0%l\0%p\0'
    code=$?
    there $units
    if [ "$found" ]; then find $found -ignore_readdir_race -mindepth 1 ! -name '*.scope' -printf '%y\t%m\t%u\t%g\0%l\0%p\0'; fi
    return $code
}
part_hashes() {
    there $roots $extra $homes $units
    timeout $((10 * patience)) find $found -ignore_readdir_race -xdev $pruned -type f ! \( $volatile -o $secrets \) -exec sha256sum -z -- {} +
}
part_secrets() {
    there $roots $extra $homes
    timeout $((10 * patience)) find $found -ignore_readdir_race -xdev $pruned -type f \( $secrets \) ! \( $volatile \) -print |
        while IFS= read -r path; do
            { printf %s "$key" && cat "$path" && printf %s "$key"; } | sha256sum | {
                read -r hash _
                printf '%s  %s\n' "$hash" "$path"
            }
        done
}
# Immutable and append-only files.
part_flags() {
    there $roots $extra $homes
    timeout $((10 * patience)) find $found -ignore_readdir_race -xdev $pruned -type f -exec lsattr -d {} + |
        awk '{ if ($1 ~ /[ia]/) { flags = ($1 ~ /i/ ? "i" : "") ($1 ~ /a/ ? "a" : ""); print flags, substr($0, index($0, "/")) } }'
}
# Files that lend their owner's rights to whoever starts them, on every file system of this host;
# what an attacker would replace among the programs: owner, mode, size, time.
part_rights() {
    places=$(awk '$3 ~ /^(ext[234]|xfs|btrfs|overlay|tmpfs)$/ && $4 !~ /nosuid/ && $2 !~ /^\/(proc|sys|dev)/ { print $2 }' /proc/self/mounts)
    timeout $((15 * patience)) find $places -ignore_readdir_race -xdev \( -path /srv/vault/\*/repo -o -path /srv/vault/\*-sealed -o -path /var/lib/postgresql/\*/\* \) -prune \
        -o -type f \( \( -perm /6000 -printf 'setuid\t%m\t%u\t%g\0%p\0' \) , \( -perm /111 -exec getcap {} + \) \)
}
part_programs() {
    there $programs
    timeout $((10 * patience)) find $found -ignore_readdir_race -xdev -path /usr/lib/systemd/system -prune -o -type f \
        -printf '%m\t%u\t%g\t%s\t%T@\0%p\0'
}
part_packages() {
    timeout $((10 * patience)) dpkg-query -W -f '${Package}\t${Architecture}\t${Version}\t${db:Status-Abbrev}\n'
}
part_services() {
    timeout $((10 * patience)) systemctl list-units --all --plain --full --no-legend --no-pager \
        --type=service,socket,timer,path
}
part_accounts() {
    awk '{ print FILENAME ":" $0 }' /etc/passwd /etc/group &&
        awk -F: '{ state = $2 ~ /^[!*]/ ? "locked" : ($2 == "" ? "open" : "password")
            print "/etc/shadow:" $1 ":" state ":" $5 ":" $8 }' /etc/shadow
}
part_keys() {
    there $keyfiles
    if [ "$found" ]; then awk '!/^[[:space:]]*(#|$)/ { print FILENAME "\t" $0 }' $found; fi
}
part_mounts() { cat /proc/self/mountinfo; }
part_kernel() {
    there $kernel
    if [ "$found" ]; then grep '' /dev/null $found; fi
}
part_firewall() { timeout $((10 * patience)) nft -s list ruleset; }
part_sockets() {
    listening=$(timeout $((10 * patience)) ss -Hlntup) || return
    printf '%s\n' "$listening"
    pids=$(printf '%s\n' "$listening" | awk '{ while (match($0, /pid=[0-9]+/)) { print "/proc/" substr($0, RSTART + 4, RLENGTH - 4) "/exe"; $0 = substr($0, RSTART + RLENGTH) } }' | sort -u)
    # A process that ended meanwhile has no program any more.
    there $pids
    if [ "$found" ]; then find $found -ignore_readdir_race -maxdepth 0 -printf '%p %l\n'; fi
}
part_certificates() {
    there /etc
    timeout $((10 * patience)) find $found -ignore_readdir_race -xdev -path /etc/ssl/certs -prune -o -type f -name '*.crt' -size -64k \
        -exec awk 'FNR == 1 { print "file " FILENAME } { print }' {} +
}
part_etcd() {
    if ! [ -e /etc/default/etcd ] || ! command -v etcdctl >/dev/null; then
        echo absent
        return 0
    fi
    # Read as systemd reads it: values are plain words.
    settings=$(awk -F= '/^(ETCDCTL_(CACERT|CERT|KEY)|ETCD_LISTEN_CLIENT_URLS)=/ { gsub(/[^A-Za-z0-9_.\/:,-]/, "", $2); print $1 "=" $2 }' /etc/default/etcd)
    eval "$settings"
    # The Go runtime reserves more address space than it uses.
    (ulimit -S -v unlimited; timeout $((6 * patience)) env GOMAXPROCS=1 GOGC=off GOMEMLIMIT=40MiB ETCDCTL_API=3 etcdctl --command-timeout=$((4 * patience))s \
        --endpoints="${ETCD_LISTEN_CLIENT_URLS##*,}" --cacert="$ETCDCTL_CACERT" --cert="$ETCDCTL_CERT" \
        --key="$ETCDCTL_KEY" member list)
}
part_database() {
    [ "$servers" ] || { echo absent; return 0; }
    export PGCONNECT_TIMEOUT=$((4 * patience)) PGDATABASE=postgres
    export PGOPTIONS="-c lock_timeout=$((2000 * patience)) -c statement_timeout=$((8000 * patience)) -c default_transaction_read_only=on -c search_path=pg_catalog"
    cd /
    databases=$(as_postgres timeout $((8 * patience)) psql -XqtA -v ON_ERROR_STOP=1 -c "SELECT format('\\connect %s', quote_ident(datname)) FROM pg_database WHERE datallowconn AND datname !~ '[[:cntrl:]]' ORDER BY datname") || return
    { printf '%s\n' "$cluster_questions"
        printf '%s\n' "$databases" | while IFS= read -r line; do printf '%s\n%s\n' "$line" "$database_questions"; done
    } | as_postgres timeout $((12 * patience)) psql -XqtA -v ON_ERROR_STOP=1
}
# Of each generation the hash, and what its head names. Hashed first: one that is made meanwhile has
# no hash, and is the next sweep's; one whose time is over meanwhile is a reason to ask again.
ask_seals() {
    timeout $((10 * patience)) find $found -ignore_readdir_race -maxdepth 1 -type f -name '*.manifest' -exec sha256sum -- {} + &&
        find $found -ignore_readdir_race -maxdepth 1 -type f \( -name '*.manifest' -o -name '*.expired' \) \
            -exec awk 'FNR > 5 { nextfile } /^(hash|previous) / { print FILENAME, $1, $2 }' {} +
}
part_seals() {
    there $sealed
    if [ "$found" ]; then ask_seals || { sleep 1 && ask_seals; }; fi
}
part_status() { if [ -e /var/lib/koseki/backup-status.json ]; then cat /var/lib/koseki/backup-status.json; fi; }
part_cost() {
    times
    awk '/^VmHWM/ { print $2 }' /proc/$$/status
}

# Homes of those who can log in, and of root; only what lets somebody in or runs by itself.
homes='' keyfiles=''
while IFS=: read -r _ _ _ _ _ home shell; do
    case $shell in */nologin | */false | */sync) continue ;; esac
    case $home in / | '' | /nonexistent | *[!A-Za-z0-9_./-]*) continue ;; esac
    keyfiles="$keyfiles $home/.ssh/authorized_keys $home/.ssh/authorized_keys2"
    [ "$home" = /root ] && continue
    for name in .ssh .config/systemd .profile .bashrc .bash_profile .bash_login .pam_environment .forward; do
        homes="$homes $home/$name"
    done
done </etc/passwd
set +f
keyfiles="$keyfiles $(echo /etc/ssh/vault-keys/*)"
sealed=$(echo /srv/vault/*-sealed/generations)
servers=
for path in /usr/lib/postgresql/*/bin/postgres; do [ -x "$path" ] && servers=$path; done
set -f

for name in host mark files hashes secrets flags rights programs packages services accounts keys \
    mounts kernel firewall sockets certificates etcd database seals status cost; do
    part "$name"
done
printf '%s whole\n' "$mark"
