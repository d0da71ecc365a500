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
    FROM pg_proc p WHERE prosecdef AND p.oid >= 16384),
  'trigger', (SELECT json_agg(json_build_array(format('%s %s', current_database(), name),
    CASE state WHEN 'O' THEN 'enable' WHEN 'A' THEN 'enable always' WHEN 'R' THEN 'enable replica'
      ELSE 'disable' END, function::regproc::text))
    FROM (SELECT format('%s on %s', tgname, tgrelid::regclass) AS name, tgenabled, tgfoid
        FROM pg_trigger WHERE NOT tgisinternal
      UNION ALL SELECT format('%s on %s', evtname, evtevent), evtenabled, evtfoid
        FROM pg_event_trigger) AS t (name, state, function)));
-- What an open request grants is not drift (policy.GRANTED says why).
SELECT to_regclass('platform.takeovers') IS NOT NULL AS lends \gset
\if :lends
SELECT json_build_object('granted', json_agg(format('operator_%s in %s_%s by postgres', operator,
    current_database(), scope))) FROM platform.requests r WHERE expires_at > now() - interval '2 min'
  AND NOT EXISTS (SELECT FROM platform.request_ends e WHERE e.number = r.number);
SELECT json_build_object('granted', json_agg(format('%1$s_takeover in %1$s_read by postgres',
    current_database()))) FROM platform.takeovers t WHERE ends_at > now() - interval '2 min'
  AND NOT EXISTS (SELECT FROM platform.takeover_ends e WHERE e.number = t.number);
\endif
