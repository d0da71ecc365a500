"""Text: what is registered comes back byte for byte, and prints in its registered form (K-19)."""

from __future__ import annotations

import json

from koseki_ops.core.language import _
from koseki_ops.plan.model import Municipality
from koseki_ops.supply.release import STAND_IN_NAME
from koseki_ops.verify.batch import Question
from koseki_ops.verify.expect import check, expect, not_verified
from koseki_ops.verify.expectations import Plan
from koseki_ops.verify.forms import FORMS, PRINTABLE, SURVIVORS, WITHOUT_FORM
from koseki_ops.verify.plugin import Facts, Questions, on_hosts
from koseki_ops.verify.registers import psql

# Written, read and taken back in one transaction. The hex is the text's bytes in UTF-8.
THERE_AND_BACK = """
BEGIN;
INSERT INTO platform.probe (id, note)
  SELECT -10 - place, convert_from(decode(hex, 'hex'), 'UTF8')
    FROM json_each_text('{texts}') AS t (place_text, hex), cast(place_text AS int) AS place;
SELECT json_object_agg(-10 - id, encode(convert_to(note, 'UTF8'), 'hex'))
  FROM platform.probe WHERE id <= -10;
SELECT count(DISTINCT note) FROM platform.probe WHERE id <= -10;
SELECT count(*) FROM platform.probe WHERE id <= -10 AND note = '葛';
ROLLBACK;
"""
# The application prints; what is in the PDF is read by others.
PRINT = """
python3 - <<'PYTHON'
{forms}
import http.client, socket

def ask(text):
    connection = http.client.HTTPConnection("localhost", timeout=25)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/koseki/application/{slug}.sock")
    connection.request("POST", "/test-print", text.encode())
    answer = connection.getresponse()
    return answer.status, answer.read()

units = json.loads('''{texts}''')
refused = {{unit: ask(unit)[0] for unit in json.loads('''{refused}''')}}
status, pdf = ask("\\n".join(units))
print(json.dumps({{"status": status, "refused": refused, **shown(pdf, units)}}))
PYTHON
"""


def questions(plan: Plan, host: str) -> Questions:
    """Write and read in every municipality's database; print by one instance."""
    if not plan.is_in(host, "application"):
        return {}
    texts = json.dumps({str(n): text.encode().hex() for n, text in enumerate(SURVIVORS)})
    asked: dict[str, str | Question] = {}
    for municipality in plan.joined:
        connection = (
            f"'host=127.0.0.1 port={plan.ports.proxy_leader} dbname={municipality.database}'"
        )
        script = THERE_AND_BACK.format(texts=texts)
        command = f"{psql(plan, municipality)} {connection} <<'SQL'\n{script}\nSQL"
        asked[f"text {municipality.slug}"] = Question(command, aside=True)
    if plan.joined and plan.platform.application_release.name == STAND_IN_NAME:
        command = PRINT.format(
            forms=FORMS,
            slug=plan.joined[0].slug,
            texts=json.dumps(PRINTABLE).replace("\\", "\\\\"),
            refused=json.dumps(WITHOUT_FORM).replace("\\", "\\\\"),
        )
        asked["print"] = Question(command, aside=True)
    return asked


@on_hosts("application")
def test_text_comes_back_from_each_database(facts: Facts, municipality: Municipality) -> None:
    """Through the proxy into the database and back: the same bytes, and no two are one (K-19)."""
    said = facts[f"text {municipality.slug}"]
    check(said.rc == 0, _("an answer"), said, facts.remedy, "haproxy")
    back, distinct, alike = said.lines
    seen = [bytes.fromhex(json.loads(back)[str(n)]).decode() for n in range(len(SURVIVORS))]
    expect(seen, list(SURVIVORS), _("by hand: see the database's encoding; report it"))
    expect(
        (distinct, alike),
        (str(len(SURVIVORS)), "1"),
        _("by hand: see the database's collation; report it"),
    )


@on_hosts("application")
def test_a_print_shows_the_registered_forms(plan: Plan, facts: Facts) -> None:
    """Application to PDF: the text can be read back and each form is the registered one (K-19).

    What the font has no form for is refused: a box, or the ordinary form, would be a lie.
    """
    if plan.platform.application_release.name != STAND_IN_NAME:
        not_verified(_("the vendor's release prints in its own way"))
    seen = facts["print"].json
    expect(seen["status"], 200, facts.remedy, f"koseki-application@{plan.joined[0].slug}")
    lines = [line.strip("\f") for line in seen["text"].splitlines() if line.strip("\f")]
    expect(lines[: len(PRINTABLE)], list(PRINTABLE), facts.remedy)
    expect(seen["wrong"], [], _("by hand: these print in another form: see the font's package"))
    expect(
        seen["refused"],
        dict.fromkeys(WITHOUT_FORM, 409),
        _("by hand: report it: a missing form must be refused"),
    )
