-- What a sweep asks PostgreSQL of the cluster: one JSON object a line, {kind: [[name, field, …], …]}.
-- Read only; nothing of a register's content is read.
SELECT json_build_object('setting', json_agg(json_build_array(name, setting, pending_restart::text)))
  FROM pg_settings WHERE context <> 'internal' AND source NOT IN ('client', 'session', 'override');
SELECT json_build_object('role', json_agg(json_build_array(rolname,
    concat_ws(' ', CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolinherit THEN 'inherit' END,
      CASE WHEN rolcreaterole THEN 'createrole' END, CASE WHEN rolcreatedb THEN 'createdb' END,
      CASE WHEN rolcanlogin THEN 'login' END, CASE WHEN rolreplication THEN 'replication' END,
      CASE WHEN rolbypassrls THEN 'bypassrls' END),
    rolconnlimit::text, coalesce(rolvaliduntil::text, ''),
    CASE WHEN rolpassword IS NULL THEN 'none' ELSE split_part(rolpassword, '$', 1) END)))
  FROM pg_authid;
SELECT json_build_object('membership', json_agg(json_build_array(
    format('%s in %s by %s', m.rolname, r.rolname, g.rolname),
    concat_ws(' ', CASE WHEN admin_option THEN 'admin' END,
      CASE WHEN inherit_option THEN 'inherit' END, CASE WHEN set_option THEN 'set' END))))
  FROM pg_auth_members JOIN pg_roles m ON m.oid = member JOIN pg_roles r ON r.oid = roleid
  JOIN pg_roles g ON g.oid = grantor;
SELECT json_build_object('role setting', json_agg(json_build_array(
    format('%s in %s: %s', coalesce(rolname, 'all'), coalesce(datname, 'all'), split_part(pair, '=', 1)),
    substr(pair, strpos(pair, '=') + 1))))
  FROM pg_db_role_setting LEFT JOIN pg_roles r ON r.oid = setrole
  LEFT JOIN pg_database d ON d.oid = setdatabase, unnest(setconfig) AS pair;
SELECT json_build_object('database', json_agg(json_build_array(datname, pg_get_userbyid(datdba),
    pg_encoding_to_char(encoding), concat_ws(' ', datlocprovider::text, datcollate, datctype, datlocale),
    spcname, concat_ws(' ', CASE WHEN datallowconn THEN 'connect' END,
      CASE WHEN datistemplate THEN 'template' END, datconnlimit::text),
    coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(datacl) AS a), 'default'))))
  FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace;
SELECT json_build_object('tablespace', json_agg(json_build_array(spcname, pg_get_userbyid(spcowner),
    pg_tablespace_location(oid),
    coalesce((SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(spcacl) AS a), 'default'))))
  FROM pg_tablespace;
SELECT json_build_object('hba', json_agg(json_build_array(concat_ws(' ', type, array_to_string(database, ','),
    array_to_string(user_name, ','), address, netmask, auth_method, array_to_string(options, ','), error))
    ORDER BY rule_number NULLS LAST, line_number))
  FROM pg_hba_file_rules;
SELECT json_build_object('patroni', pg_read_file('patroni.dynamic.json', true)::json);
SELECT json_build_object('leads', NOT pg_is_in_recovery(), 'lag', CASE WHEN pg_is_in_recovery()
    THEN NULL ELSE (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn))
      FROM pg_stat_replication WHERE application_name <> 'pg_basebackup') END,
    'replicas', (SELECT count(*) FROM pg_stat_replication));
