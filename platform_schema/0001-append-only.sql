-- For tables whose rows are a record: they are added and never changed. A table gets it by
--   CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON platform.… EXECUTE FUNCTION platform.append_only();
--   ALTER TABLE platform.… ENABLE ALWAYS TRIGGER append_only;
CREATE FUNCTION platform.append_only() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  RAISE EXCEPTION 'a row of %.% is never changed: add one that says what is so now',
    TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
