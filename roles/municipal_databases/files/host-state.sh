#!/bin/sh
# Say as JSON: whether PostgreSQL is installed here, whether this host leads, which folders exist.
# $1: the folder that holds the tablespaces.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-60}" sh "$0" "$@"
export PGOPTIONS='-c lock_timeout=10s -c statement_timeout=30s'

installed=false
leads=false
if getent passwd postgres >/dev/null; then
    installed=true
    # Without a server there is nobody to ask; one that answers has to say what it is.
    if command -v pg_isready >/dev/null && pg_isready --quiet; then
        answer=$(cd / && runuser -u postgres -- psql -XqtAc 'SELECT NOT pg_is_in_recovery()')
        case $answer in
        t) leads=true ;;
        f) ;;
        *) echo "psql does not say whether this host leads ($answer)" >&2; exit 1 ;;
        esac
    fi
fi
folders=
for folder in "$1" "$1"/*; do
    if [ -d "$folder" ]; then folders="$folders${folders:+, }\"$folder\""; fi
done
printf '{"installed": %s, "leads": %s, "folders": [%s]}\n' "$installed" "$leads" "$folders"
