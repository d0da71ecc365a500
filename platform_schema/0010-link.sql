-- The registry link's books: which number comes, what was applied and sent, what waits to be sent.
-- The engine writes the ledger's row in the transaction of the records themselves.
CREATE SCHEMA link;

CREATE TABLE link.flows (
  flow text PRIMARY KEY,
  direction text NOT NULL CHECK (direction IN ('in', 'out')),
  next_sequence bigint NOT NULL DEFAULT 1,
  -- Of what is sent: the last number that was put into the folder.
  published bigint NOT NULL DEFAULT 0,
  mode text NOT NULL DEFAULT 'automatic' CHECK (mode IN ('automatic', 'manual')),
  reason text NOT NULL DEFAULT '',
  by text NOT NULL DEFAULT ''
);

CREATE TABLE link.ledger (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  flow text NOT NULL,
  direction text NOT NULL CHECK (direction IN ('in', 'out')),
  action text NOT NULL,
  sequence bigint,
  file text NOT NULL,
  sha256 text NOT NULL,
  records bigint,
  code text NOT NULL,
  mode text NOT NULL,
  by text NOT NULL,
  reason text NOT NULL,
  CHECK (mode <> 'manual' OR (by <> '' AND reason <> ''))
);
-- A number is used once, whatever dies.
CREATE UNIQUE INDEX ledger_once ON link.ledger (flow, sequence)
  WHERE action IN ('applied', 'composed');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON link.ledger
  EXECUTE FUNCTION platform.append_only();
ALTER TABLE link.ledger ENABLE ALWAYS TRIGGER append_only;

-- Written by the application, in the transaction of what it tells the registry of.
CREATE TABLE link.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  flow text NOT NULL,
  record jsonb NOT NULL,
  sequence bigint,
  -- Why no file can carry it: a code of docs/link.md.
  refused text NOT NULL DEFAULT ''
);
CREATE INDEX outbox_sent ON link.outbox (flow, sequence, id);
CREATE INDEX outbox_waits ON link.outbox (flow, id) WHERE sequence IS NULL AND refused = '';
CREATE FUNCTION link.wake() RETURNS trigger LANGUAGE plpgsql
  SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  PERFORM pg_notify('link', '');
  RETURN NULL;
END
$$;
CREATE TRIGGER wake AFTER INSERT ON link.outbox EXECUTE FUNCTION link.wake();

-- The registry's last statement: whose entry has which digest.
CREATE TABLE link.statement (
  resident text PRIMARY KEY,
  digest text NOT NULL
);

GRANT USAGE ON SCHEMA link TO koseki_link, koseki_application;
GRANT SELECT, INSERT, UPDATE ON link.flows TO koseki_link;
GRANT SELECT, INSERT ON link.ledger TO koseki_link;
GRANT SELECT, UPDATE (sequence, refused) ON link.outbox TO koseki_link;
GRANT SELECT, INSERT, DELETE ON link.statement TO koseki_link;
GRANT INSERT (flow, record) ON link.outbox TO koseki_application;
