-- What a sweep asks PostgreSQL in each database: one JSON object a line, {kind: [[name, field, …], …]}.
-- Read only; nothing of a register's content is read.
-- What PostgreSQL brought along itself (below 16384) is its version's matter.
SELECT json_build_object('extension', (SELECT json_agg(json_build_array(
    format('%s %s', current_database(), extname), extversion, nspname))
    FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace),
  'schema', (SELECT json_agg(json_build_array(format('%s %s', current_database(), nspname),
    pg_get_userbyid(nspowner), coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text)
      FROM unnest(nspacl) AS a), 'default')))
    FROM pg_namespace WHERE nspname !~ '^pg_(temp|toast)'),
  'grant', (SELECT json_agg(json_build_array(format('%s %s.%s', current_database(), nspname, relname),
    pg_get_userbyid(relowner), coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text)
      FROM unnest(relacl) AS a), 'default')))
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'v', 'm', 'f', 'p', 'S') AND (c.oid >= 16384)
      AND nspname !~ '^pg_(temp|toast)'),
  'definer', (SELECT json_agg(json_build_array(format('%s %s', current_database(), p.oid::regprocedure),
    pg_get_userbyid(proowner), md5(prosrc)))
    FROM pg_proc p WHERE prosecdef AND p.oid >= 16384));
