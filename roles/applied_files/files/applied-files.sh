#!/bin/sh
# Say as JSON whether this host leads and, if so, which SQL files of a series each database has.
# $1: the table of the schema platform that notes them; then the databases.
set -eu
[ -n "${bounded-}" ] || exec env bounded=yes timeout -v -k 5 "${KOSEKI_SECONDS:-300}" sh "$0" "$@"
table=$1
shift
# What a municipality's role put into its database is not found before PostgreSQL's own.
export PGOPTIONS='-c search_path=pg_catalog -c lock_timeout=10s -c statement_timeout=10min -c idle_in_transaction_session_timeout=1min'

leads=
# Before there is a server here there is nobody to ask; one that answers has to say what it is.
if getent passwd postgres >/dev/null && command -v pg_isready >/dev/null && pg_isready --quiet; then
    leads=$(cd / && runuser -u postgres -- psql -XqtAc 'SELECT NOT pg_is_in_recovery()')
fi
case $leads in
t) ;;
f | '')
    echo '{"leads": false, "databases": {}}'
    exit 0
    ;;
*)
    echo "psql does not say whether this host leads ($leads)" >&2
    exit 1
    ;;
esac
script="\\set QUIET 1
\\pset tuples_only on
\\pset format unaligned"
for database in "$@"; do
    script="$script
SELECT count(*) > 0 AS there FROM pg_database WHERE datname = '$database' \\gset
\\if :there
\\connect $database
SELECT to_regclass('platform.$table') IS NOT NULL AS noted \\gset
\\if :noted
SELECT json_build_object('$database', coalesce(json_object_agg(number, sha256), '{}'))
  FROM platform.$table;
\\else
SELECT '{\"$database\": {}}';
\\endif
\\endif"
done
rows=$(cd / && runuser -u postgres -- psql -Xq --set=ON_ERROR_STOP=1 --file=- <<END
$script
END
)
rows=$(paste -sd, - <<END
$rows
END
)
printf '{"leads": true, "databases": [%s]}\n' "$rows"
