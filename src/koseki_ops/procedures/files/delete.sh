#!/bin/bash
# Drop a municipality's sealed database with its tablespace and roles. $1: the database. Run on the
# leader; what is gone already is no fault, so that a run that was broken off can be repeated.
set -euo pipefail

database=$1
# Nothing that the municipality's own roles left there is called by the superuser.
export PGOPTIONS='-c search_path=pg_catalog -c lock_timeout=10s -c statement_timeout=10min -c idle_in_transaction_session_timeout=1min'
cd /
runuser -u postgres -- psql -Xq -v ON_ERROR_STOP=1 -v database="$database" <<'SQL'
DROP DATABASE IF EXISTS :"database" WITH (FORCE);
DROP TABLESPACE IF EXISTS :"database";
SELECT format('DROP ROLE %I', rolname) FROM pg_roles
 WHERE rolname ~ ('^' || :'database' || '_[a-z]+$') \gexec
SQL
