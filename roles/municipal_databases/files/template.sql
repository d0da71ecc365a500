-- What every municipality's database starts with. A row in platform.probe belongs to the platform's
-- own checks (drills, the canary), never to a register.
BEGIN;
CREATE SCHEMA platform;
CREATE TABLE platform.probe (
  id bigint PRIMARY KEY,
  note text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA platform TO koseki_application;
GRANT SELECT, INSERT, DELETE ON platform.probe TO koseki_application;
COMMIT;
