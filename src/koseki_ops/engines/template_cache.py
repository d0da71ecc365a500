"""Compiled templates that all processes of one Ansible run share.

Ansible runs each task on each host in a process of its own, a copy of the first one, and each of
them compiles every expression that it meets: the same few hundred, thousands of times, for a fifth
of what a run costs on this side. Jinja's own cache of bytecode keeps what one of them compiled for
the others. It is of one run: what an expression compiles to depends on its text, on how it is
delimited, and on which filters want the context. (Its origin, and whether it is trusted, are looked
up when it is evaluated.)
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import CodeType
from typing import Any

from ansible._internal._templating._jinja_bits import (
    _TEMPLATE_OVERRIDE_FIELD_NAMES,
    AnsibleEnvironment,
    _TemplateCompileContext,
)
from jinja2 import FileSystemBytecodeCache, nodes
from jinja2.bccache import Bucket
from jinja2.environment import TemplateExpression


def share_templates(folder: Path) -> None:
    """Make Ansible's environments look in `folder` before they compile, and keep what is new there.

    folder: private to this account, since what lies in it is run.
    """
    cache = FileSystemBytecodeCache(str(folder))
    compile_template, compile_expression = (
        AnsibleEnvironment.compile,
        AnsibleEnvironment.compile_expression,
    )
    # An expression is compiled as a tree, and only what it became is wanted.
    made = threading.local()

    def bucket_of(environment: AnsibleEnvironment, kind: str, source: str) -> Bucket:
        context = _TemplateCompileContext.current(optional=True)
        escapes = context is not None and context.escape_backslashes
        delimiters = [getattr(environment, name) for name in _TEMPLATE_OVERRIDE_FIELD_NAMES]
        return cache.get_bucket(
            environment, repr((kind, escapes, delimiters, source)), None, source
        )

    def compiled(
        self: AnsibleEnvironment,
        source: str | nodes.Template,
        name: str | None = None,
        filename: str | None = None,
        *more: Any,  # noqa: ANN401 - Jinja's own
        **options: Any,  # noqa: ANN401
    ) -> CodeType | str:
        if not isinstance(source, str) or name or filename or more or options:
            code: CodeType | str = compile_template(self, source, name, filename, *more, **options)
            made.code = code
            return code
        bucket = bucket_of(self, "template", source)
        if bucket.code is None:
            bucket.code = compile_template(self, source)
            cache.set_bucket(bucket)
        return bucket.code

    def compiled_expression(
        self: AnsibleEnvironment,
        source: str,
        undefined_to_none: bool = True,
    ) -> TemplateExpression:
        bucket = bucket_of(self, "expression", source)
        if bucket.code is None:
            expression: TemplateExpression = compile_expression(self, source, undefined_to_none)
            bucket.code = made.code
            cache.set_bucket(bucket)
            return expression
        template = self.template_class.from_code(self, bucket.code, self.make_globals(None), None)
        return TemplateExpression(template, undefined_to_none)

    AnsibleEnvironment.compile = compiled
    AnsibleEnvironment.compile_expression = compiled_expression
