"""The suites' hooks and fixtures live in `koseki_ops.verify.plugin`; pytest finds them here."""

from koseki_ops.verify.plugin import (  # noqa: F401 - pytest reads these names
    everywhere,
    facts,
    host,
    host_name,
    plan,
    pytest_addoption,
    pytest_collection_finish,
    pytest_configure,
    pytest_generate_tests,
    pytest_runtest_makereport,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
