-- What PostgreSQL lets everybody call and no application needs: each takes of something that all
-- databases of the server share, or keeps content where no right of a table covers it. By name, so
-- that every form of a function is meant. tests/testinfra/public_functions.yml has what stays open,
-- with the reason; docs/shared-resources.md has what is shared.
SET LOCAL search_path = pg_catalog;
DO $$
DECLARE
  told regprocedure;
BEGIN
  FOR told IN
    SELECT oid FROM pg_proc
     WHERE pronamespace = 'pg_catalog'::regnamespace
       AND (proname ~ '^pg_(try_)?advisory_'
         OR proname ~ '^(lo_|pg_logical_|binary_upgrade_)'
         OR proname ~ '^pg_.*replication_slot'
         OR proname IN ('loread', 'lowrite', 'pg_export_snapshot', 'pg_import_system_collations',
              'pg_nextoid', 'pg_stop_making_pinned_objects', 'pg_extension_config_dump',
              'pg_isolation_test_session_is_blocked'))
  LOOP
    EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', told);
  END LOOP;
END
$$;
