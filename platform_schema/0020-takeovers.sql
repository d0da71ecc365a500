-- The host municipality issues for another that is cut off (K-06): who declared it, why, until when;
-- and what was issued meanwhile, under a series of numbers without gaps. docs/takeover.md.
CREATE TABLE platform.takeovers (
  number int PRIMARY KEY,
  declared_by text NOT NULL CHECK (declared_by <> ''),
  approver text NOT NULL CHECK (approver <> ''),
  cause text NOT NULL CHECK (cause <> ''),
  typed_by text NOT NULL,
  starts_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ends_at timestamptz NOT NULL,
  CHECK (approver <> declared_by),
  CHECK (ends_at > starts_at AND ends_at < starts_at + interval '31 days')
);
CREATE TABLE platform.takeover_ends (
  number int PRIMARY KEY REFERENCES platform.takeovers,
  how text NOT NULL CHECK (how IN ('ended', 'expired')),
  ended_by text NOT NULL,
  ended_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE platform.takeover_documents (
  number int PRIMARY KEY,
  takeover int NOT NULL REFERENCES platform.takeovers,
  register text NOT NULL CHECK (register <> ''),
  as_of timestamptz NOT NULL,
  issued_by text NOT NULL CHECK (issued_by <> ''),
  terminal text NOT NULL,
  signatory text NOT NULL CHECK (signatory <> ''),
  margin_note text NOT NULL CHECK (margin_note <> ''),
  sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  issued_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
-- The last number that was taken; it goes back with the transaction that took it.
CREATE TABLE platform.takeover_numbers (last int NOT NULL);
INSERT INTO platform.takeover_numbers VALUES (0);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON platform.takeovers
  EXECUTE FUNCTION platform.append_only();
ALTER TABLE platform.takeovers ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON platform.takeover_ends
  EXECUTE FUNCTION platform.append_only();
ALTER TABLE platform.takeover_ends ENABLE ALWAYS TRIGGER append_only;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON platform.takeover_documents
  EXECUTE FUNCTION platform.append_only();
ALTER TABLE platform.takeover_documents ENABLE ALWAYS TRIGGER append_only;

CREATE FUNCTION platform.open_takeover() RETURNS int LANGUAGE sql VOLATILE
  SET search_path = pg_catalog, pg_temp AS $$
SELECT number FROM platform.takeovers t
 WHERE clock_timestamp() < ends_at
   AND NOT EXISTS (SELECT FROM platform.takeover_ends e WHERE e.number = t.number)
$$;

-- Whether the role that stands in holds the right to read this database.
CREATE FUNCTION platform.takeover_lent() RETURNS boolean LANGUAGE sql STABLE
  SET search_path = pg_catalog, pg_temp AS $$
SELECT EXISTS (
  SELECT FROM pg_auth_members
    JOIN pg_roles r ON r.oid = roleid AND r.rolname = current_database() || '_read'
    JOIN pg_roles m ON m.oid = member AND m.rolname = current_database() || '_takeover')
$$;

-- Write down what the clock has ended, take back the right that no declaration covers.
CREATE FUNCTION platform.settle_takeovers() RETURNS SETOF text LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  ended record;
BEGIN
  IF pg_is_in_recovery() THEN
    RETURN;
  END IF;
  LOCK TABLE platform.takeovers IN SHARE ROW EXCLUSIVE MODE;
  FOR ended IN
    INSERT INTO platform.takeover_ends (number, how, ended_by)
    SELECT number, 'expired', 'the clock' FROM platform.takeovers t
     WHERE ends_at <= clock_timestamp()
       AND NOT EXISTS (SELECT FROM platform.takeover_ends e WHERE e.number = t.number)
    RETURNING number
  LOOP
    RETURN NEXT format('takeover %s of %s has expired', ended.number, current_database());
  END LOOP;
  IF platform.open_takeover() IS NULL AND platform.takeover_lent() THEN
    EXECUTE format('REVOKE %I FROM %I', current_database() || '_read',
      current_database() || '_takeover');
    RETURN NEXT format('nobody stands in for %s any more', current_database());
  END IF;
END
$$;

-- told: declared_by, approver, cause, typed_by as text, ends_at as a moment. A municipality without
-- the clause has no role to stand in with, and nothing here can make one.
CREATE FUNCTION platform.declare_takeover(told jsonb) RETURNS int LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given int;
BEGIN
  IF to_regrole(quote_ident(current_database() || '_takeover')) IS NULL THEN
    RAISE EXCEPTION '% has no clause that lets another issue for it', current_database();
  END IF;
  PERFORM platform.settle_takeovers();
  LOCK TABLE platform.takeovers IN SHARE ROW EXCLUSIVE MODE;
  IF platform.open_takeover() IS NOT NULL THEN
    RAISE EXCEPTION 'takeover % of % is declared already: end it first',
      platform.open_takeover(), current_database();
  END IF;
  SELECT coalesce(max(number), 0) + 1 INTO given FROM platform.takeovers;
  INSERT INTO platform.takeovers (number, declared_by, approver, cause, typed_by, ends_at)
  VALUES (given, told->>'declared_by', told->>'approver', told->>'cause', told->>'typed_by',
    (told->>'ends_at')::timestamptz);
  EXECUTE format('GRANT %I TO %I WITH INHERIT TRUE, SET FALSE, ADMIN FALSE',
    current_database() || '_read', current_database() || '_takeover');
  RETURN given;
END
$$;

CREATE FUNCTION platform.end_takeover(told_by text) RETURNS void LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM platform.settle_takeovers();
  LOCK TABLE platform.takeovers IN SHARE ROW EXCLUSIVE MODE;
  IF platform.open_takeover() IS NULL THEN
    RAISE EXCEPTION 'no takeover of % is declared: see `koseki takeover status`',
      current_database();
  END IF;
  INSERT INTO platform.takeover_ends (number, how, ended_by)
  VALUES (platform.open_takeover(), 'ended', told_by);
  PERFORM platform.settle_takeovers();
END
$$;

-- Whoever stands in is asked for a declaration at every login, as operators are for a request; and
-- who stands in for another municipality has nothing to seek here.
CREATE FUNCTION platform.admit_takeover() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF session_user LIKE 'koseki\_%\_takeover' AND (
    session_user <> current_database() || '_takeover' OR platform.open_takeover() IS NULL) THEN
    RAISE EXCEPTION 'no takeover of % is declared', current_database()
      USING ERRCODE = 'invalid_authorization_specification';
  END IF;
END
$$;
CREATE EVENT TRIGGER koseki_admit_takeover ON login EXECUTE FUNCTION platform.admit_takeover();
ALTER EVENT TRIGGER koseki_admit_takeover ENABLE ALWAYS;

-- As in 0002, and those of whoever stands in.
CREATE OR REPLACE FUNCTION platform.end_sessions() RETURNS SETOF text LANGUAGE sql
  SET search_path = pg_catalog, pg_temp AS $$
WITH over AS MATERIALIZED (
  SELECT pid, usename, datname FROM pg_stat_activity
   WHERE datname = current_database()
     AND CASE WHEN usename LIKE 'operator\_%' THEN platform.open_request(substr(usename, 10)) IS NULL
              WHEN usename = datname || '_takeover' THEN platform.open_takeover() IS NULL
              ELSE false END)
SELECT format('session %s of %s in %s is ended', pid, usename, datname)
  FROM over WHERE pg_terminate_backend(pid)
$$;

-- Take the next number. Whoever asks next waits until this transaction has ended.
CREATE FUNCTION platform.takeover_number() RETURNS int LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  given int;
BEGIN
  IF platform.open_takeover() IS NULL THEN
    RAISE EXCEPTION 'no takeover of % is declared', current_database()
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  UPDATE platform.takeover_numbers SET last = last + 1 RETURNING last INTO given;
  RETURN given;
END
$$;

-- Write down what was issued under the number just taken, in the same transaction. told: register,
-- as_of, issued_by, terminal, signatory, margin_note, sha256.
CREATE FUNCTION platform.takeover_document(told jsonb) RETURNS void LANGUAGE plpgsql
  SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF platform.open_takeover() IS NULL THEN
    RAISE EXCEPTION 'no takeover of % is declared', current_database()
      USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO platform.takeover_documents (number, takeover, register, as_of, issued_by, terminal,
    signatory, margin_note, sha256)
  SELECT last, platform.open_takeover(), told->>'register', (told->>'as_of')::timestamptz,
    told->>'issued_by', told->>'terminal', told->>'signatory', told->>'margin_note',
    told->>'sha256'
  FROM platform.takeover_numbers;
END
$$;

-- A number that was taken and has no document when its transaction ends takes that transaction back.
CREATE FUNCTION platform.takeover_number_is_used() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM platform.takeover_documents WHERE number = NEW.last) THEN
    RAISE EXCEPTION 'number % of % has no document', NEW.last, current_database();
  END IF;
  RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER number_is_used AFTER UPDATE ON platform.takeover_numbers
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION platform.takeover_number_is_used();
ALTER TABLE platform.takeover_numbers ENABLE ALWAYS TRIGGER number_is_used;

REVOKE ALL ON FUNCTION platform.open_takeover, platform.takeover_lent, platform.settle_takeovers,
  platform.declare_takeover, platform.end_takeover, platform.takeover_number,
  platform.takeover_document, platform.takeover_number_is_used FROM PUBLIC;
-- All that whoever stands in may do beside reading; each asks whether a takeover is declared.
GRANT USAGE ON SCHEMA platform TO koseki_takeover;
GRANT EXECUTE ON FUNCTION platform.takeover_number, platform.takeover_document TO koseki_takeover;
