"""What lynis says of a host, read from a report that it made in the lab (names left out of it)."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from koseki_ops.core.errors import KosekiError
from koseki_ops.image.lynis import OF_THE_KERNEL, PARTS, Remark, bundle, parse
from koseki_ops.plan.site import Site

REPORT = Path(__file__).with_name("lynis-report.dat").read_text(encoding="utf-8")


def test_score_and_remarks_are_read() -> None:
    """The score, how much was asked, and each remark with its details."""
    said = parse(REPORT, OF_THE_KERNEL)
    assert (said.version, said.index, said.tests) == ("3.1.4", 67, 252)
    assert said.left_out == OF_THE_KERNEL
    assert said.warnings == ()
    ssh = [remark.details for remark in said.suggestions if remark.test == "SSH-7408"]
    assert len(ssh) == 6
    assert ssh[1] == "ClientAliveCountMax (set 3 to 2)"
    assert Remark("ACCT-9622", "Enable process accounting", "") in said.suggestions


def test_a_warning_is_no_suggestion() -> None:
    """What the audit holds for wrong is kept apart from what it would like."""
    warned = REPORT + "warning[]=AUTH-9216|grpck binary found errors in group files|-|-|\n"
    (warning,) = parse(warned).warnings
    assert warning == Remark("AUTH-9216", "grpck binary found errors in group files", "")


def test_that_a_newer_version_exists_is_no_remark_on_the_host() -> None:
    """Which one runs is the mirror's business."""
    assert "LYNIS|" in REPORT
    assert "LYNIS" not in {remark.test for remark in parse(REPORT).suggestions}


@pytest.mark.parametrize("lost", ["hardening_index=", "lynis_tests_done=", "finish="])
def test_a_report_that_was_cut_off_is_refused(lost: str) -> None:
    """Half a report would hide what stands in the other half."""
    cut = "".join(line for line in REPORT.splitlines(keepends=True) if not line.startswith(lost))
    with pytest.raises(KosekiError, match="cannot be read"):
        parse(cut)


def test_the_auditor_comes_from_the_mirror() -> None:
    """All its parts, and the tests that are left out in its profile."""
    with tarfile.open(fileobj=io.BytesIO(bundle(Site.open(), ["KRNL-6000"]))) as archive:
        assert set(PARTS.values()) <= set(archive.getnames())
        profile = archive.extractfile("default.prf")
        assert profile is not None
        assert profile.read().endswith(b"\nskip-test=KRNL-6000\n")
