"""Commands in the language that is spoken: their help, and click's own sentences."""

from __future__ import annotations

import gettext
import inspect
import sys
from collections.abc import Callable
from copy import copy
from typing import Any

import click

from koseki_ops.core.language import (
    ENGLISH,
    LANGUAGES,
    VARIABLE,
    _,
    choose,
    language,
    ngettext,
    translate,
)

EXAMPLE = "Example: "


def language_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--lang`."""
    return click.option(
        "--lang",
        type=click.Choice(LANGUAGES),
        envvar=VARIABLE,
        is_eager=True,
        expose_value=False,
        callback=_chosen,
        help="Language of messages (default: by LC_ALL, LC_MESSAGES or LANG, else English).",
    )(command)


def _chosen(context: click.Context, option: click.Parameter, value: str | None) -> None:  # noqa: ARG001 - click's signature
    if value:
        choose(value)


def paragraphs(text: str | None) -> list[str]:
    """Return the paragraphs of a command's help, each on one line."""
    shown = inspect.cleandoc(text or "").partition("\f")[0]
    return [" ".join(part.split()) for part in shown.split("\n\n") if part.strip()]


def in_language[Shown: click.Command](command: Shown) -> Shown:
    """Return a command whose help is in the language that is spoken; in English itself.

    The command is left as it is: what it says is decided anew each time it is shown.
    """
    if language() == ENGLISH:
        return command
    shown = copy(command)
    shown.help = "\n\n".join(map(_paragraph, paragraphs(command.help)))
    if command.short_help:
        shown.short_help = translate(command.short_help)
    shown.params = [_parameter(item) for item in command.params]
    # click makes it once, in the language of that moment.
    shown._help_option = None  # noqa: SLF001 - click has no other way to make it anew
    if isinstance(shown, click.Group):
        shown.commands = {name: in_language(item) for name, item in shown.commands.items()}
    return shown


def _paragraph(text: str) -> str:
    if text.startswith(EXAMPLE):
        return _("Example: {command}").format(command=text.removeprefix(EXAMPLE))
    return translate(text)


def _parameter(parameter: click.Parameter) -> click.Parameter:
    shown = copy(parameter)
    if isinstance(shown, click.Option | click.Argument) and shown.help:
        shown.help = translate(shown.help)
    return shown


def speak_for_click() -> None:
    """Let click take its own sentences from our catalogue.

    It asks gettext, which goes by a locale's variables; every program that is started from here
    would read them too, and have other messages than the ones that are looked for in them.
    """
    ours: dict[str, tuple[object, object]] = {
        "_": (gettext.gettext, translate),
        "ngettext": (gettext.ngettext, ngettext),
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("click."):
            for attribute, (theirs, own) in ours.items():
                if getattr(module, attribute, None) is theirs:
                    setattr(module, attribute, own)
