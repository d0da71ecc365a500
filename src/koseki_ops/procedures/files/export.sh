#!/bin/bash
# Write a municipality's sealed database to standard output, encrypted for the certificate (PEM) on
# standard input. Only the superuser can connect meanwhile, and it is sealed again however this ends.
# $1: the database. The last line of standard error says, as JSON, what was written.
set -euo pipefail

database=$1
place=$(mktemp -d /run/koseki-export.XXXXXX)
# Nothing that the municipality's own roles left there is called by the superuser.
export PGOPTIONS='-c search_path=pg_catalog -c lock_timeout=10s -c statement_timeout=10min -c idle_in_transaction_session_timeout=1min'
cd /

ask() {
    runuser -u postgres -- psql -XqtA -v ON_ERROR_STOP=1 "$@"
}

seal() {
    rm -rf "$place"
    ask -c "ALTER DATABASE $database ALLOW_CONNECTIONS false"
}

cat >"$place/recipient.pem"
mkfifo "$place/copy"
trap seal EXIT
ask -c "ALTER DATABASE $database ALLOW_CONNECTIONS true"
rows=$(ask -d "$database" <<'SQL'
SELECT coalesce(json_object_agg(format('%s.%s', nspname, relname), (xpath('/row/n/text()',
    query_to_xml(format('SELECT count(*) AS n FROM %I.%I', nspname, relname), false, true, '')))[1]
    ::text::bigint ORDER BY nspname, relname), '{}')
  FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
 WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema');
SQL
)
sha256sum <"$place/copy" >"$place/sum" &
runuser -u postgres -- pg_dump --lock-wait-timeout=10s --format=plain --encoding=UTF8 "$database" | tee "$place/copy" |
    openssl cms -encrypt -binary -stream -outform DER -aes-256-gcm "$place/recipient.pem"
wait $!
read -r sum _ <"$place/sum"
printf '{"sha256": "%s", "rows": %s}\n' "$sum" "${rows//$'\n'/}" >&2
