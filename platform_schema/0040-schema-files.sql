-- Which files of the release's schema this database has. Until now the table was made on the way to
-- the first file; here it gets the one door by which the database's owner, as whom a release's SQL
-- runs, notes a file in the transaction of the file itself. Nothing else of the platform is his.
CREATE TABLE IF NOT EXISTS platform.schema_files (
  number int PRIMARY KEY,
  file text NOT NULL,
  sha256 text NOT NULL,
  release text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON platform.schema_files TO koseki_application;

-- The next number and no other: a file that notes itself, or one to come, takes its own note back.
CREATE FUNCTION platform.note_schema_file(number int, file text, sha256 text, release text)
  RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  following int;
BEGIN
  LOCK TABLE platform.schema_files IN SHARE ROW EXCLUSIVE MODE;
  SELECT coalesce(max(s.number), 0) + 1 INTO following FROM platform.schema_files s;
  IF note_schema_file.number IS DISTINCT FROM following THEN
    RAISE EXCEPTION 'schema file % of % is not the next one, which is %',
      note_schema_file.number, current_database(), following USING ERRCODE = 'insufficient_privilege';
  END IF;
  INSERT INTO platform.schema_files (number, file, sha256, release)
  VALUES (note_schema_file.number, note_schema_file.file, note_schema_file.sha256,
    note_schema_file.release);
END
$$;
REVOKE ALL ON FUNCTION platform.note_schema_file FROM PUBLIC;
GRANT USAGE ON SCHEMA platform TO :"owner";
GRANT EXECUTE ON FUNCTION platform.note_schema_file TO :"owner";
