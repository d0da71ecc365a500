"""The municipalities: one row each, with all that is theirs alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from koseki_ops.core.language import _
from koseki_ops.plan.model.values import DocumentText, IsoDate, Positive, Slug, Table
from koseki_ops.plan.naming import Names, database_of

CODE_WEIGHTS = (6, 5, 4, 3, 2)


def check_digit(code5: str) -> str:
    """Return the check digit of a five-digit 全国地方公共団体コード (JIS X 0402, modulus 11)."""
    total = sum(weight * int(digit) for weight, digit in zip(CODE_WEIGHTS, code5, strict=True))
    return str(11 - total % 11)[-1]


def _code6(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic reports ValueError, TypeError escapes it
            _('a municipality code is a string, not a number; write it in quotes, as "202053"')
        )
    if not re.fullmatch(r"[0-9]{6}", value):
        raise ValueError(_("a municipality code has six digits, the last a check digit"))
    wanted = check_digit(value[:5])
    if value[5] != wanted:
        raise ValueError(
            _("wrong check digit; {value} takes {wanted}, so write {value}{wanted}").format(
                value=value[:5], wanted=wanted
            )
        )
    return value


Code6 = Annotated[str, BeforeValidator(_code6)]
DocumentId = Annotated[str, Field(min_length=1)]


class Joining(Table):
    """What a municipality's going live rests on, as ids of documents (K-02)."""

    approval: DocumentId | None = None
    """Id of the document of 認容."""
    resolution: DocumentId | None = None
    """Id of the document of 議決, its assembly's."""
    agreement: DocumentId | None = None
    """Id of the document of 調印."""


class Takeover(Table):
    """What holds while the host municipality issues for another that is cut off."""

    signatory: DocumentText
    """Who signs, as the documents say."""
    margin_note: DocumentText
    """The note in the documents' margin."""
    longest_hours: Annotated[int, Field(gt=0, le=720)]
    """Longest time between declaration and end, in hours."""


TerminalId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{1,15}-[0-9]{2}$")]


@dataclass(frozen=True)
class Terminal:
    """One terminal of a municipality's counter; its certificate names both."""

    id: str
    municipality: str


class Municipality(Table):
    """One municipality of the shared platform."""

    code6: Code6
    """Its 全国地方公共団体コード with the check digit, in quotes."""
    name: str
    """Its registered name, in exactly these characters."""
    kana: str
    """Its registered reading, in hiragana."""
    slug: Slug
    """How files, commands, databases and accounts name it."""
    romaji: str
    """Its reading for people who do not read Japanese; no host's content comes from it."""
    kind: Literal["市", "町", "村"]
    """What it is; the name ends with it."""
    phase: Positive
    """With which group it joined; no host's content comes from it."""
    joined_on: IsoDate | None
    """Its first day on the platform; null while that is not decided."""
    left_on: IsoDate | None = None
    """The first day without it; its row stays."""
    host: bool = False
    """Whether it runs the platform for all; exactly one does."""
    terminals: Annotated[list[TerminalId], Field(min_length=1)]
    """The terminals of its counters: its slug, a hyphen and two digits; a certificate names one."""
    joining: Joining | None = None
    """What its going live rests on (K-02); complete before its first day."""
    signatory: DocumentText | None = None
    """Who signs its documents; otherwise its head."""
    takeover: Takeover | None = None
    """What holds while the host issues for it in a failure; nobody may without it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.left_on and (self.joined_on is None or self.left_on <= self.joined_on):
            raise ValueError(_("left_on is not after joined_on; correct the dates"))
        if self.left_on and self.host:
            raise ValueError(_("the municipality that runs the platform cannot leave it"))
        if self.takeover and self.host:
            raise ValueError(
                _(
                    "the municipality that runs the platform issues for others; take its "
                    "takeover out"
                )
            )
        return self

    @model_validator(mode="after")
    def _own_terminals(self) -> Self:
        for place, terminal in enumerate(self.terminals):
            if terminal.rpartition("-")[0] != self.slug:
                raise ValueError(
                    _(
                        "terminals[{place}] is {terminal}: a terminal of {slug} is called "
                        "{slug}-NN; correct one"
                    ).format(place=place, terminal=terminal, slug=self.slug)
                )
            if terminal in self.terminals[:place]:
                raise ValueError(
                    _("terminals[{place}] is {terminal}, which is there already").format(
                        place=place, terminal=terminal
                    )
                )
        return self

    def has_joined(self, day: date) -> bool:
        """Say whether it has joined by a day, whatever came after."""
        return self.joined_on is not None and self.joined_on <= day

    def has_left(self, day: date) -> bool:
        """Say whether it has left by a day."""
        return self.left_on is not None and self.left_on <= day

    def takes_part(self, first: date, last: date) -> bool:
        """Say whether it is active on one day at least of these, from the first to the last."""
        return self.has_joined(last) and not self.has_left(first)

    def is_active(self, day: date) -> bool:
        """Say whether it has joined by a day and not left (K-02)."""
        return self.takes_part(day, day)

    @property
    def missing_documents(self) -> list[str]:
        """The documents of its joining that are not there yet, by their Japanese names (K-02)."""
        joining = self.joining or Joining()
        there = {"認容": joining.approval, "議決": joining.resolution, "調印": joining.agreement}
        return [name for name, document in there.items() if document is None]

    @property
    def issued_by_host_in_failure(self) -> bool:
        """Whether the host may issue for it while it is cut off (K-06)."""
        return self.takeover is not None

    @property
    def names(self) -> Names:
        """What its things are called on the platform."""
        return Names(self.slug, self.code6)

    @property
    def database(self) -> str:
        """The municipality's database and tablespace."""
        return database_of(self.slug)
