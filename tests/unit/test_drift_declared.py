"""What an engine's tasks say that they own: what nobody declares is unmanaged."""

from __future__ import annotations

from typing import Any

import pytest

from koseki_ops.drift.judge.declared import merge, of_task


@pytest.mark.parametrize(
    ("action", "result", "kind", "name", "fields"),
    [
        (
            "ansible.builtin.template",
            {"dest": "/etc/x.conf", "mode": "0640", "owner": "root", "group": "koseki"},
            "file",
            "/etc/x.conf",
            {"type": "f", "mode": "640", "owner": "root", "group": "koseki"},
        ),
        (
            "ansible.builtin.file",
            {"path": "/etc/x", "state": "directory", "mode": "0755"},
            "file",
            "/etc/x",
            {"type": "d", "mode": "755"},
        ),
        (
            "ansible.builtin.user",
            {"name": "koseki", "uid": 801, "group": 801, "home": "/srv", "shell": "/bin/sh"},
            "user",
            "koseki",
            {"uid": "801", "gid": "801", "home": "/srv", "shell": "/bin/sh"},
        ),
        (
            "ansible.builtin.user",
            {"name": "koseki", "uid": 801},
            "user",
            "koseki",
            {"uid": "801"},
        ),
    ],
)
def test_a_result_declares_what_it_decides(
    action: str, result: dict[str, Any], kind: str, name: str, fields: dict[str, str]
) -> None:
    """A field that the task leaves open is not the engine's."""
    rows = of_task(action, {}, result)
    assert rows[kind][name] == fields


def test_a_files_hash_is_kept_beside() -> None:
    """It is Ansible's kind of hash; a folder has none."""
    file = {"dest": "/etc/x.conf", "checksum": "abc"}
    assert of_task("copy", {}, file)["_sha1"] == {"/etc/x.conf": {"sha1": "abc"}}
    folder = {"path": "/etc/x", "state": "directory", "checksum": "abc"}
    assert "_sha1" not in of_task("file", {}, folder)


@pytest.mark.parametrize(
    ("action", "result"),
    [
        ("file", {"path": "/etc/x", "state": "absent"}),
        ("copy", {"dest": "relative"}),
        ("copy", {"dest": "/etc/x", "skipped": True}),
        ("copy", {"dest": "/etc/x", "failed": True}),
        ("user", {"name": "gone", "state": "absent"}),
        ("systemd_service", {"name": "x.service", "enabled": False}),
        ("command", {"cmd": "true"}),
    ],
)
def test_what_is_not_there_is_not_declared(action: str, result: dict[str, Any]) -> None:
    """Taken away, never made, or none of a kind that lasts."""
    assert of_task(f"ansible.builtin.{action}", {}, result) == {}


def test_every_turn_of_a_loop_declares() -> None:
    """Packages are named one by one, also when the module was asked for one."""
    asked = {"invocation": {"module_args": {"name": ["a", "b"]}}}
    one = {"invocation": {"module_args": {"package": "c"}}}
    rows = of_task("apt", {}, {"results": [asked, one, {"skipped": True}]})
    assert set(rows["package"]) == {"a", "b", "c"}


def test_a_result_that_is_kept_back_is_read_from_the_task() -> None:
    """For its secret's sake nothing is shown: literal arguments are known all the same."""
    arguments = {"dest": "/etc/secret", "mode": "0600", "owner": "{{ somebody }}"}
    rows = of_task("copy", arguments, {"censored": "the output has been hidden"})
    assert rows["file"]["/etc/secret"] == {"type": "f", "mode": "600"}


def test_a_unit_is_active_when_it_was_started() -> None:
    """One that is only enabled may rest."""
    enabled: dict[str, Any] = {"name": "x.timer", "enabled": True}
    started = of_task("systemd_service", {}, {**enabled, "state": "started"})
    assert of_task("systemd", {}, enabled) != started


def test_declarations_are_added_field_by_field() -> None:
    """Two tasks may decide about one file; what the later one says counts."""
    into: dict[str, dict[str, dict[str, str]]] = {"file": {"/etc/x": {"mode": "600"}}}
    merge(into, {"file": {"/etc/x": {"owner": "root", "mode": "640"}}, "user": {"a": {}}})
    assert into == {"file": {"/etc/x": {"mode": "640", "owner": "root"}}, "user": {"a": {}}}
