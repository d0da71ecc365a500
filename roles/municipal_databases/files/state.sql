-- What is there, as one JSON object; koseki_ops.registers.schema says what is missing.
SELECT json_build_object(
  'roles', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles),
  'logins', (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles WHERE rolcanlogin),
  'limits', (SELECT coalesce(json_object_agg(rolname, rolconnlimit), '{}') FROM pg_roles),
  'settings', (SELECT coalesce(json_object_agg(rolname, setconfig), '{}')
                 FROM pg_db_role_setting JOIN pg_roles r ON r.oid = setrole
                WHERE setdatabase = 0),
  'members', (SELECT coalesce(json_agg(m.rolname), '[]')
                FROM pg_auth_members a
                JOIN pg_roles g ON g.oid = a.roleid
                 AND g.rolname IN ('koseki_application', 'koseki_link', 'koseki_takeover')
                JOIN pg_roles m ON m.oid = a.member),
  'superuser_settings', (SELECT coalesce(json_agg(pair), '[]')
                           FROM pg_db_role_setting, unnest(setconfig) AS pair
                          WHERE setrole = 'postgres'::regrole AND setdatabase = 0),
  'tablespaces', (SELECT json_agg(spcname) FROM pg_tablespace),
  'databases', (SELECT json_object_agg(d.datname, json_build_object(
                         'owner', pg_get_userbyid(d.datdba), 'tablespace', t.spcname,
                         'open', d.datallowconn))
                  FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace),
  'public_connect', (SELECT coalesce(json_agg(d.datname), '[]')
                       FROM pg_database d
                       CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
                      WHERE a.grantee = 0 AND d.datname <> 'template0'),
  'connect', (SELECT coalesce(json_object_agg(datname, names), '{}')
                FROM (SELECT d.datname, json_agg(DISTINCT pg_get_userbyid(a.grantee)) AS names
                        FROM pg_database d
                        CROSS JOIN LATERAL aclexplode(d.datacl) a
                       WHERE a.grantee <> 0 AND a.grantee <> d.datdba
                         AND (d.datname = 'postgres' OR d.datname LIKE 'koseki\_%')
                       GROUP BY d.datname) c)
);
