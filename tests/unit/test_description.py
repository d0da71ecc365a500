"""The stand-in's description says what its routes are: neither has what the other has not."""

from __future__ import annotations

import re

import pytest
import yaml

from koseki_ops.plan.inventory import load_yaml
from koseki_ops.plan.site import project_root
from koseki_ops.supply.release import SOURCE_FILE, STAND_IN
from koseki_sample.routes import ROUTES, Route

FOLDER = project_root() / STAND_IN
DESCRIPTION = yaml.safe_load((FOLDER / "openapi.yml").read_text(encoding="utf-8"))


def test_what_is_described_is_what_is_routed() -> None:
    """Method and path of each, and the handler's name as the operation's."""
    described = {
        (method.upper(), path, operation["operationId"])
        for path, methods in DESCRIPTION["paths"].items()
        for method, operation in methods.items()
    }
    assert described == {(route.method, route.path, route.handler) for route in ROUTES}


def test_every_number_of_a_path_is_described() -> None:
    """Its name is a parameter of the operation, in the path."""
    for route in ROUTES:
        operation = DESCRIPTION["paths"][route.path][route.method.lower()]
        named = {row["name"] for row in operation.get("parameters", []) if row.get("in") == "path"}
        assert named == set(re.findall(r"\{([a-z]+)\}", route.path)), route.path


def test_the_description_is_of_this_release() -> None:
    """Its version is the release's."""
    assert DESCRIPTION["info"]["version"] == load_yaml(FOLDER / SOURCE_FILE)["version"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/registers/7", ("7",)),
        (f"/registers/{'9' * 18}", ("9" * 18,)),
        (f"/registers/{'9' * 19}", None),
        ("/registers/٧", None),
        ("/registers/7/", None),
        ("/registers/", None),
    ],
)
def test_a_number_is_digits_that_fit(path: str, found: tuple[str, ...] | None) -> None:
    """What the database's bigint cannot hold, or is no plain digit, is no path."""
    seen = Route("GET", "/registers/{register}", "register").pattern().fullmatch(path)
    assert (seen.groups() if seen else None) == found
