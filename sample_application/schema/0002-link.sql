-- The application's half of the registry link (docs/link.md): 附票, what a record of a file does to
-- it, and what is held against the registry's statement. The link's role calls these two functions
-- and sees nothing else of the registers.
CREATE TABLE koseki.fuhyo (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  resident text NOT NULL,
  name text NOT NULL,
  kana text NOT NULL,
  address text NOT NULL,
  moved_on date NOT NULL,
  honseki text,
  flow text NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX fuhyo_resident ON koseki.fuhyo (resident, id DESC);

-- An address is added beneath the one before: 附票 is the list of all of them.
CREATE FUNCTION koseki.link_apply(flow text, record jsonb) RETURNS void
  LANGUAGE plpgsql SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  IF flow NOT IN ('address-change', 'transfer-in') THEN
    RAISE EXCEPTION 'this release takes no records of this flow';
  END IF;
  INSERT INTO koseki.fuhyo (resident, name, kana, address, moved_on, honseki, flow)
  VALUES (record->>'resident', record->>'name', record->>'kana', record->>'address',
          (record->>'moved_on')::date, record->>'honseki', flow);
END
$$;

-- What the registry says of the same person: a digest of the last entry.
CREATE FUNCTION koseki.link_statement() RETURNS TABLE (resident text, digest text)
  LANGUAGE sql STABLE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp AS $$
  SELECT DISTINCT ON (f.resident) f.resident,
         encode(sha256(convert_to(concat_ws(chr(10), f.resident, f.name, f.kana, f.address,
                                            to_char(f.moved_on, 'YYYY-MM-DD')), 'UTF8')), 'hex')
    FROM koseki.fuhyo f ORDER BY f.resident, f.id DESC
$$;

REVOKE ALL ON FUNCTION koseki.link_apply(text, jsonb), koseki.link_statement() FROM PUBLIC;
GRANT USAGE ON SCHEMA koseki TO koseki_link;
GRANT EXECUTE ON FUNCTION koseki.link_apply(text, jsonb), koseki.link_statement() TO koseki_link;
GRANT SELECT ON koseki.fuhyo TO koseki_application;
