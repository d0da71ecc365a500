"""What is said in SQL: everything once on an empty cluster, nothing on one that is right."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.plan.days import effective_day, today_in
from koseki_ops.plan.for_ansible import (
    client_certificates,
    instances,
    municipality_names,
    takeover_instances,
    takeovers,
)
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Municipality
from koseki_ops.plan.municipalities import active, left
from koseki_ops.registers.schema import (
    PLATFORM_SCHEMA,
    municipality_statements,
    platform_file_statements,
    platform_files,
    platform_statements,
    schema_statements,
    sealed_statements,
)

PLAN = Inventory(Path(__file__).resolve().parents[2] / "inventories/iida").platform


def municipality(slug: str, **values: Any) -> Municipality:  # noqa: ANN401 - any column
    """Return a municipality of the plan, with some of its columns otherwise."""
    (row,) = (row for row in PLAN.municipalities if row.slug == slug)
    return row.model_copy(update=values)


MUNICIPALITIES = municipality_names([municipality("iida"), municipality("oshika")])


def cluster() -> dict[str, Any]:
    """What `state.sql` reports of a cluster as Patroni makes it."""
    return {
        "roles": ["postgres", "recorder", "rewinder"],
        "logins": ["postgres", "recorder", "rewinder"],
        "members": [],
        "tablespaces": ["pg_default"],
        "databases": {"postgres": {}, "template1": {}},
        "public_connect": ["postgres", "template1"],
        "connect": {},
    }


def settled() -> dict[str, Any]:
    """What `state.sql` reports when all is as it should be."""
    kinds = ("owner", "application", "link", "read", "correct")
    groups = ("koseki_application", "koseki_link", "koseki_takeover")
    stand_in = "koseki_oshika_takeover"
    names = [municipality[kind] for municipality in MUNICIPALITIES for kind in kinds]
    enter = [
        stand_in,
        *(
            municipality[kind]
            for municipality in MUNICIPALITIES
            for kind in ("application", "link")
        ),
    ]
    return {
        "roles": ["postgres", "rewinder", *groups, "operator_sousa01", stand_in, *names],
        "logins": ["postgres", "operator_sousa01", *enter],
        "members": [*enter, *(municipality["correct"] for municipality in MUNICIPALITIES)],
        "tablespaces": [municipality["tablespace"] for municipality in MUNICIPALITIES],
        "databases": {
            "koseki_template": {},
            **{
                t["database"]: {"owner": t["owner"], "tablespace": t["tablespace"], "open": True}
                for t in MUNICIPALITIES
            },
        },
        "public_connect": [],
        "connect": {
            "postgres": ["rewinder"],
            **{
                t["database"]: [t["application"], t["link"], t["read"], t["correct"]]
                for t in MUNICIPALITIES
            },
        },
    }


def test_an_empty_cluster_is_closed_and_gets_its_template() -> None:
    """The doors of PUBLIC are shut first, and the way that pg_rewind needs stays open."""
    said = platform_statements(cluster(), [])
    assert "REVOKE ALL ON DATABASE postgres FROM PUBLIC" in said
    assert "GRANT CONNECT ON DATABASE postgres TO rewinder" in said
    revoked = said.index("REVOKE ALL ON DATABASE postgres FROM PUBLIC")
    assert revoked < said.index("GRANT CONNECT ON DATABASE postgres TO rewinder")
    assert "CREATE DATABASE koseki_template TEMPLATE template0" in said


def test_roles_come_before_what_they_own() -> None:
    """An owner, then its tablespace, then its database, then who may connect."""
    said = municipality_statements(MUNICIPALITIES, cluster())
    order = [
        "CREATE ROLE koseki_iida_owner NOLOGIN",
        "CREATE TABLESPACE koseki_iida OWNER koseki_iida_owner",
        "CREATE DATABASE koseki_iida OWNER koseki_iida_owner",
        "REVOKE ALL ON DATABASE koseki_iida FROM PUBLIC",
        "GRANT CONNECT ON DATABASE koseki_iida TO koseki_iida_app",
    ]
    places = [
        next(place for place, line in enumerate(said) if line.startswith(start)) for start in order
    ]
    assert places == sorted(places)


def test_nothing_is_said_twice() -> None:
    """A cluster that is right hears nothing."""
    assert platform_statements(settled(), ["sousa01"]) == []
    assert municipality_statements(MUNICIPALITIES, settled()) == []


def test_a_stranger_is_shown_out() -> None:
    """A role that was let into a municipality's database by hand loses that right (K-01)."""
    state = settled()
    state["connect"]["koseki_oshika"].append("koseki_iida_app")
    said = municipality_statements(MUNICIPALITIES, state)
    assert said == ["REVOKE ALL ON DATABASE koseki_oshika FROM koseki_iida_app"]


def test_an_operator_comes_without_a_right_and_goes_with_all() -> None:
    """A role of one's own that is in nothing; who is no operator any more loses it (K-05, K-11)."""
    said = platform_statements(settled(), ["sousa02"])
    assert said[0] == "CREATE ROLE operator_sousa02 LOGIN CONNECTION LIMIT 5"
    assert said[-1] == "DROP ROLE operator_sousa01"
    assert not any("GRANT" in line for line in said)
    assert "ALTER ROLE operator_sousa02 SET pgaudit.log_statement = 'off'" in said


def test_only_the_clause_brings_a_role_that_stands_in() -> None:
    """Where the plan says so it is there, without a way in; where it does not, it goes (K-06)."""
    said = municipality_statements(MUNICIPALITIES, cluster())
    assert [line for line in said if "_takeover" in line] == [
        "CREATE ROLE koseki_oshika_takeover LOGIN CONNECTION LIMIT 10",
        "GRANT koseki_takeover TO koseki_oshika_takeover",
    ]
    without = [{**municipality, "takeover": ""} for municipality in MUNICIPALITIES]
    assert municipality_statements(without, settled()) == ["DROP ROLE koseki_oshika_takeover"]


def test_public_is_shut_out_again() -> None:
    """A grant to everybody is taken back, and the municipality keeps its own right."""
    state = settled()
    state["public_connect"].append("koseki_iida")
    assert municipality_statements(MUNICIPALITIES, state) == [
        "REVOKE ALL ON DATABASE koseki_iida FROM PUBLIC"
    ]


def test_what_a_municipality_leaves_behind_is_sealed_and_can_be_opened_again() -> None:
    """All its roles are shut out, nobody connects, nothing is dropped; and all of it goes back."""
    state, (oshika,) = settled(), MUNICIPALITIES[1:]
    said = sealed_statements([oshika], state)
    kinds = ("app", "link", "takeover")
    assert said[:3] == [f"ALTER ROLE koseki_oshika_{kind} NOLOGIN" for kind in kinds]
    assert "REVOKE ALL ON DATABASE koseki_oshika FROM koseki_oshika_correct" in said
    assert "ALTER DATABASE koseki_oshika ALLOW_CONNECTIONS false" in said
    assert not any("DROP" in statement for statement in said)

    state["logins"] = ["postgres", "koseki_iida_app", "koseki_iida_link"]
    state["connect"]["koseki_oshika"] = []
    state["databases"]["koseki_oshika"]["open"] = False
    assert sealed_statements([oshika], state) == []
    assert municipality_statements(MUNICIPALITIES, state) == [
        *(f"ALTER ROLE koseki_oshika_{kind} LOGIN" for kind in kinds),
        "ALTER DATABASE koseki_oshika ALLOW_CONNECTIONS true",
        *(
            f"GRANT CONNECT ON DATABASE koseki_oshika TO koseki_oshika_{kind}"
            for kind in ("app", "link", "read", "correct")
        ),
    ]


def test_a_municipality_is_active_until_the_day_it_leaves() -> None:
    """The day of leaving is the first without it; without a day of joining it never was there."""
    row = municipality("oshika", joined_on=date(2015, 11, 1), left_on=date(2026, 4, 1))
    last, first = date(2026, 3, 31), date(2026, 4, 1)
    assert [len(active([row], day)) for day in (last, first)] == [1, 0]
    assert [len(left([row], day)) for day in (last, first)] == [0, 1]
    assert active([municipality("oshika", joined_on=None)], first) == []


def test_a_day_begins_where_the_platform_is() -> None:
    """Two zones that lie 26 hours apart never have one day, whatever this machine's clock says."""
    east, west = "Pacific/Kiritimati", "Etc/GMT+12"
    assert today_in(west) < today_in(east)
    assert effective_day("today", east) == today_in(east)
    assert effective_day("2026-04-01", east) == effective_day("2026-04-01", west)


def test_municipalities_join_on_their_day() -> None:
    """0, 8, 8 and 14 are active on the four days that matter (K-02)."""
    days = (date(2015, 10, 31), date(2015, 11, 1), date(2017, 10, 31), date(2017, 11, 1))
    assert [len(active(PLAN.municipalities, day)) for day in days] == [0, 8, 8, 14]


def test_each_key_belongs_to_its_municipality() -> None:
    """A certificate names the database role, and its Unix user alone reads the key (K-01)."""
    iida, oshika = client_certificates(MUNICIPALITIES)
    assert (iida["common_name"], iida["owner"]) == ("koseki_iida_app", "koseki-iida")
    assert iida["key"] != oshika["key"]


RELEASE = {
    "version": "1.0.0",
    "schema": [{"number": 1, "file": "schema/0001-a.sql", "sha256": "aa"}],
    "sql": {"schema/0001-a.sql": "CREATE SCHEMA own;"},
}


def seen(**databases: dict[str, str]) -> dict[str, Any]:
    """What the role `applied_files` finds on a leader."""
    return {"leads": True, "databases": [{name: files} for name, files in databases.items()]}


def test_a_schema_file_is_applied_once_as_the_owner() -> None:
    """Where it is missing, in one transaction with its note; where it is there, nothing is said."""
    said = schema_statements(
        RELEASE, MUNICIPALITIES, seen(koseki_iida={"1": "aa"}, koseki_oshika={})
    )
    assert "koseki_iida" not in said
    order = ["\\connect koseki_oshika", "BEGIN;", "SET LOCAL ROLE koseki_oshika_owner;"]
    order += ["CREATE SCHEMA own;", "RESET ROLE;", "INSERT INTO platform.schema_files", "COMMIT;"]
    places = [said.index(part) for part in order]
    assert places == sorted(places)


def test_only_the_leader_is_told() -> None:
    """A replica hears nothing: it records what the leader does."""
    assert schema_statements(RELEASE, MUNICIPALITIES, {"leads": False, "databases": {}}) == ""


def test_an_applied_schema_file_does_not_change() -> None:
    """What was applied under a number stays what it was."""
    with pytest.raises(KosekiError, match="has changed"):
        schema_statements(RELEASE, MUNICIPALITIES, seen(koseki_iida={"1": "bb"}, koseki_oshika={}))


OWN_SQL = Path(__file__).resolve().parents[2] / PLATFORM_SCHEMA
# What databases note of the files that were applied to them: a change here is a new file.
APPLIED = {
    "0001-append-only.sql": "75eb767493f0b61cd7ebdde0788338021d8b690408441ef41db808e634ab5605",
    "0002-requests.sql": "71af5a449b8869b1d3f9eab6ce66c59f889fa7f3394613bdf591f23433ffaa6c",
    "0010-link.sql": "53760c4daec6cda8e5494ee0f246300783f9872ed48bc0e58007321f48d3dd96",
    "0020-takeovers.sql": "ca83f331793a2e70b17a2b9c575749e7ee0e12bf8ead5e95ace4cc8ebf4fa714",
}


def test_the_platforms_sql_is_applied_once_as_the_superuser(tmp_path: Path) -> None:
    """In order, one transaction a file with its note, and never as a municipality's role (K-05)."""
    (tmp_path / "0002-second.sql").write_text("SELECT 2;")
    (tmp_path / "0001-first.sql").write_text('SELECT :"owner";')
    (first, second) = platform_files(tmp_path)
    there = seen(koseki_iida={"1": first["sha256"], "2": second["sha256"]}, koseki_oshika={})
    said = platform_file_statements(tmp_path, MUNICIPALITIES, there)
    assert "koseki_iida" not in said
    assert "SET LOCAL ROLE" not in said
    order = ["\\connect koseki_oshika", "\\set owner koseki_oshika_owner", "BEGIN;"]
    order += ['SELECT :"owner";', "'0001-first.sql'", "COMMIT;", "BEGIN;", "SELECT 2;", "COMMIT;"]
    place = 0
    for part in order:
        place = said.index(part, place) + len(part)
    there["databases"][1]["koseki_oshika"] = {"1": first["sha256"]}
    assert "0001-first.sql" not in platform_file_statements(tmp_path, MUNICIPALITIES, there)


def test_the_platforms_applied_sql_does_not_change(tmp_path: Path) -> None:
    """A file that was applied and is another now is refused; so are two of one number."""
    (tmp_path / "0001-first.sql").write_text("SELECT 1;")
    with pytest.raises(KosekiError, match="has changed"):
        platform_file_statements(tmp_path, MUNICIPALITIES, seen(koseki_iida={"1": "bb"}))
    (tmp_path / "0001-other.sql").write_text("SELECT 1;")
    with pytest.raises(KosekiError, match="one number"):
        platform_files(tmp_path)
    (tmp_path / "0001-other.sql").rename(tmp_path / "note.sql")
    with pytest.raises(KosekiError, match="NNNN-name"):
        platform_files(tmp_path)


def test_the_platforms_sql_is_byte_for_byte_what_was_applied() -> None:
    """Every database holds the hashes; a new file brings its row, an old one keeps it."""
    assert {row["file"]: row["sha256"] for row in platform_files(OWN_SQL)} == APPLIED


def test_the_platforms_sql_leaves_transactions_to_the_toolkit() -> None:
    """A COMMIT or an order to psql within a file would end the one transaction that it is."""
    found = [
        f"{row['file']}: {line}"
        for row in platform_files(OWN_SQL)
        for line in row["sql"].splitlines()
        if line.startswith(("\\", "BEGIN;", "COMMIT"))
    ]
    assert found == []


def test_who_stands_in_is_told_whose_it_is() -> None:
    """Its own role, key and path, read only, with the words of its documents (K-06)."""
    municipalities = [municipality("iida"), municipality("oshika"), municipality("takamori")]
    rows = takeovers(municipalities)
    assert [(row["municipality"], row["host"]) for row in rows] == [("oshika", "iida")]
    assert takeovers(municipalities[1:]) == [], "nobody has joined who could issue"
    (told,) = takeover_instances(rows, PLAN.service_ports, "/ca.crt").values()
    assert (told["KOSEKI_CODE"], told["KOSEKI_SIGNATORY"]) == ("204170", "飯田市長")
    assert "dbname=koseki_oshika user=koseki_oshika_takeover" in told["KOSEKI_DATABASE"]
    assert "/municipalities/takeover-oshika/client.key" in told["KOSEKI_DATABASE"]
    assert (told["KOSEKI_READ_ONLY"], told["KOSEKI_PATH"]) == ("yes", "/takeover/oshika/")


def test_an_instance_is_told_its_own() -> None:
    """Its database, role and key, and who signs: the head, or whom the plan names."""
    (told,) = instances([municipality("iida")], PLAN.service_ports, "/ca.crt").values()
    assert told["KOSEKI_SIGNATORY"] == "飯田市長"
    assert "dbname=koseki_iida user=koseki_iida_app sslmode=verify-full" in told["KOSEKI_DATABASE"]
    assert "port=5001" in told["KOSEKI_DATABASE_READ"]
    acting = municipality("iida", signatory="飯田市長職務代理者")
    (told,) = instances([acting], PLAN.service_ports, "/ca.crt").values()
    assert told["KOSEKI_SIGNATORY"] == "飯田市長職務代理者"
