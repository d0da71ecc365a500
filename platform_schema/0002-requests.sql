-- The register of requests (K-05): who may work in this database as a person, for whom, by what
-- law, how far and until when. A request is a row; its end is a row; neither is ever changed.
-- docs/requests.md says how the parts work together.
CREATE TABLE platform.requests (
  number int PRIMARY KEY,
  operator text NOT NULL CHECK (operator ~ '^[a-z][a-z0-9]{2,15}$'),
  scope text NOT NULL CHECK (scope IN ('read', 'correct')),
  basis text NOT NULL CHECK (basis <> ''),
  requester text NOT NULL CHECK (requester <> ''),
  approver text NOT NULL CHECK (approver <> ''),
  opened_by text NOT NULL,
  opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  CHECK (approver <> requester AND approver <> operator),
  CHECK (expires_at > opened_at AND expires_at < opened_at + interval '31 days')
);
CREATE TABLE platform.request_ends (
  number int PRIMARY KEY REFERENCES platform.requests,
  how text NOT NULL CHECK (how IN ('closed', 'expired')),
  ended_by text NOT NULL,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON platform.requests
  EXECUTE FUNCTION platform.append_only();
ALTER TABLE platform.requests ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON platform.request_ends
  EXECUTE FUNCTION platform.append_only();
ALTER TABLE platform.request_ends ENABLE ALWAYS TRIGGER append_only;

-- What a scope may do. read: every table of the release. correct: that, and what the application
-- itself may (by membership, see koseki_ops.databases): no more than a counter can.
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT USAGE ON SCHEMAS TO :"read", :"correct";
ALTER DEFAULT PRIVILEGES FOR ROLE :"owner" GRANT SELECT ON TABLES TO :"read", :"correct";
-- The release's schema may have been there before this file was.
DO $$
DECLARE
  own name := current_database() || '_owner';
  told name;
BEGIN
  FOR told IN SELECT nspname FROM pg_namespace WHERE nspowner = own::regrole LOOP
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I, %I', told,
      current_database() || '_read', current_database() || '_correct');
    EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I, %I', told,
      current_database() || '_read', current_database() || '_correct');
  END LOOP;
END
$$;

-- By the clock on the wall and not the transaction's: a transaction may have begun long ago.
CREATE FUNCTION platform.open_request(asked text) RETURNS int LANGUAGE sql VOLATILE
  SET search_path = pg_catalog, pg_temp AS $$
SELECT number FROM platform.requests r
 WHERE operator = asked AND clock_timestamp() < expires_at
   AND NOT EXISTS (SELECT FROM platform.request_ends e WHERE e.number = r.number)
$$;

-- Memberships of this database's scopes that operators hold, and whether an open request covers each.
CREATE VIEW platform.scopes_held AS
  SELECT m.rolname AS member, g.rolname AS scope_role, EXISTS (
      SELECT FROM platform.requests r
       WHERE 'operator_' || r.operator = m.rolname
         AND current_database() || '_' || r.scope = g.rolname
         AND r.number = platform.open_request(r.operator)) AS covered
    FROM pg_auth_members a
    JOIN pg_roles g ON g.oid = a.roleid
      AND g.rolname IN (current_database() || '_read', current_database() || '_correct')
    JOIN pg_roles m ON m.oid = a.member AND m.rolname LIKE 'operator\_%';

-- Write down what the clock has ended, take back every right that no open request covers. A right
-- that is there without one is taken all the same. Nothing on a replica, which records along.
CREATE FUNCTION platform.settle_requests() RETURNS SETOF text LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ended record;
BEGIN
  IF pg_is_in_recovery() THEN
    RETURN;
  END IF;
  LOCK TABLE platform.requests IN SHARE ROW EXCLUSIVE MODE;
  FOR ended IN
    INSERT INTO platform.request_ends (number, how, ended_by)
    SELECT number, 'expired', 'the clock' FROM platform.requests r
     WHERE expires_at <= clock_timestamp()
       AND NOT EXISTS (SELECT FROM platform.request_ends e WHERE e.number = r.number)
    RETURNING number
  LOOP
    RETURN NEXT format('request %s of %s has expired', ended.number, current_database());
  END LOOP;
  FOR ended IN SELECT member, scope_role FROM platform.scopes_held WHERE NOT covered LOOP
    EXECUTE format('REVOKE %I FROM %I', ended.scope_role, ended.member);
    RETURN NEXT format('%s is no longer in %s', ended.member, ended.scope_role);
  END LOOP;
END
$$;

-- End the sessions in this database that no open request covers; to be called in a transaction after
-- the one that took the right back, so that none begins in between. On a replica too.
CREATE FUNCTION platform.end_sessions() RETURNS SETOF text LANGUAGE sql
  SET search_path = pg_catalog, pg_temp AS $$
-- Chosen first and ended then: within one WHERE PostgreSQL asks what is cheap first, and ends all.
WITH over AS MATERIALIZED (
  SELECT pid, usename, datname FROM pg_stat_activity
   WHERE datname = current_database() AND usename LIKE 'operator\_%'
     AND platform.open_request(substr(usename, 10)) IS NULL)
SELECT format('session %s of %s in %s is ended', pid, usename, datname)
  FROM over WHERE pg_terminate_backend(pid)
$$;

-- told: operator, scope, basis, requester, approver, opened_by as text, expires_at as a moment.
CREATE FUNCTION platform.open_a_request(told jsonb) RETURNS int LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given int;
BEGIN
  PERFORM platform.settle_requests();
  LOCK TABLE platform.requests IN SHARE ROW EXCLUSIVE MODE;
  IF platform.open_request(told->>'operator') IS NOT NULL THEN
    RAISE EXCEPTION 'request % of % is open for %: close it first',
      platform.open_request(told->>'operator'), current_database(), told->>'operator';
  END IF;
  -- Without gaps: a number is taken in the transaction that uses it.
  SELECT coalesce(max(number), 0) + 1 INTO given FROM platform.requests;
  INSERT INTO platform.requests
    (number, operator, scope, basis, requester, approver, opened_by, expires_at)
  VALUES (given, told->>'operator', told->>'scope', told->>'basis', told->>'requester',
    told->>'approver', told->>'opened_by', (told->>'expires_at')::timestamptz);
  EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE, ADMIN FALSE',
    current_database() || '_' || (told->>'scope'), 'operator_' || (told->>'operator'));
  RETURN given;
END
$$;

CREATE FUNCTION platform.close_a_request(closed int, closed_by text) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM platform.settle_requests();
  LOCK TABLE platform.requests IN SHARE ROW EXCLUSIVE MODE;
  IF NOT EXISTS (SELECT FROM platform.requests WHERE number = closed)
    OR EXISTS (SELECT FROM platform.request_ends WHERE number = closed) THEN
    RAISE EXCEPTION 'request % of % is not open: see `koseki request list`',
      closed, current_database();
  END IF;
  INSERT INTO platform.request_ends (number, how, ended_by) VALUES (closed, 'closed', closed_by);
  PERFORM platform.settle_requests();
END
$$;

-- Whoever comes as an operator is asked for a request before the first statement, whatever rights
-- the role still has: a right that was not yet taken back opens nothing. A refusal is a line of the
-- server's log, since an error takes back what its own transaction wrote.
CREATE FUNCTION platform.admit_operators() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  open int;
BEGIN
  IF session_user NOT LIKE 'operator\_%' THEN
    RETURN;
  END IF;
  open := platform.open_request(substr(session_user, 10));
  IF open IS NULL THEN
    RAISE EXCEPTION 'no open request for % in %', session_user, current_database()
      USING ERRCODE = 'invalid_authorization_specification';
  END IF;
  RAISE LOG 'session under request % of %', open, current_database();
END
$$;
CREATE EVENT TRIGGER koseki_admit_operators ON login EXECUTE FUNCTION platform.admit_operators();
-- Also for a session that calls itself a replication's.
ALTER EVENT TRIGGER koseki_admit_operators ENABLE ALWAYS;

-- PostgreSQL lets everybody call what is new: these are the superuser's alone.
REVOKE ALL ON FUNCTION platform.open_request, platform.settle_requests, platform.end_sessions,
  platform.open_a_request, platform.close_a_request FROM PUBLIC;
