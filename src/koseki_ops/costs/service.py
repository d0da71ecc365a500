"""What a person asks of the book of bills, and what may be recorded in it (K-16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from koseki_ops.calendar.business_days import Office
from koseki_ops.core.errors import KosekiError
from koseki_ops.core.language import _
from koseki_ops.costs import bills
from koseki_ops.costs.bills import Bill, Line, Stage
from koseki_ops.costs.book import Book, Entry
from koseki_ops.costs.model import MOST_YEN, Agreement, load_agreement
from koseki_ops.plan.inventory import Inventory
from koseki_ops.plan.model import Municipality, Platform
from koseki_ops.plan.municipalities import operators_on
from koseki_ops.plan.rules import load_platform
from koseki_ops.plan.site import Site

BILLED: tuple[Stage, ...] = ("notice", "settlement")


@dataclass(frozen=True)
class Finding:
    """Something that is late or no longer right: of which fiscal year, what, and what to do."""

    fiscal_year: int
    what: str
    remedy: str


def open_agreement(site: Site, file: Path | None) -> tuple[Agreement, Platform]:
    """Return the agreement of a site and the plan that it is held against."""
    platform = load_platform(Inventory(site.inventory))
    path = file or site.root / "agreements" / f"{site.inventory_name}.yml"
    return load_agreement(path, [row.code6 for row in platform.municipalities]), platform


def code_of(municipalities: Sequence[Municipality], given: str) -> str:
    """Return a municipality's code by its name, slug or code; KosekiError when there is none."""
    for row in municipalities:
        if given in {row.code6, row.slug, row.name}:
            return row.code6
    raise KosekiError(
        _("there is no such municipality"),
        given,
        _("give its name, slug or code, as `koseki municipalities` lists them"),
    )


@dataclass
class CostService:
    """What a command works with. today: the day that it is for the platform's people."""

    agreement: Agreement
    platform: Platform
    book: Book
    today: date

    @classmethod
    def open(cls, site: Site, file: Path | None = None) -> CostService:
        """Read plan and agreement; of the book nothing is read yet."""
        agreement, platform = open_agreement(site, file)
        return cls(agreement, platform, Book(site), platform.today)

    @property
    def office(self) -> Office:
        """The calendar of the office that bills."""
        return Office(time_zone=self.platform.timezone)

    def operator(self, given: str) -> str:
        """Return an operator of today, wherever that person works."""
        rows = self.platform.operators
        known = operators_on(rows, {place for row in rows for place in row.hosts}, self.today)
        if given not in known:
            raise KosekiError(
                _("not a valid operator today"),
                given,
                _("name an operator of `operators.yml`: {known}").format(known=", ".join(known)),
            )
        return given

    def draft(self, fiscal_year: int, stage: Stage, by: str, due: date | None = None) -> Bill:
        """Record a draft of a fiscal year's paper and return it; an older draft counts no more.

        due: of a settlement, by when its difference is paid.
        """
        self.operator(by)
        if due is not None and (due < self.today or not self.office.is_open(due)):
            raise KosekiError(
                _("a difference is paid by a business day to come"),
                str(due),
                _("give another `--due`, as {day}").format(
                    day=self.office.moved(max(due, self.today), "next")
                ),
            )
        with self.book.alone():
            bill = self._made(fiscal_year, stage, by, due)
            self.book.draft(bill)
        return bill

    def approve(self, number: str, by: str) -> Entry:
        """Issue a draft. Refused: by its maker, when another one is newer, or it holds no more."""
        self.operator(by)
        with self.book.alone():
            entry = self.book.entry(number)
            bill = entry.bill
            self._hold_approvable(entry, by)
            due = next((line.due for line in bill.lines), None)
            again = self._made(
                bill.fiscal_year,
                bill.stage,
                bill.made_by,
                due if bill.stage == "settlement" else None,
                as_of=bill.made_on,
            )
            if not bill.same_figures(again):
                raise KosekiError(
                    _("the agreement or the plan differs from the draft"),
                    number,
                    _("draft it again, and let that be approved: {command}").format(
                        command=_command(bill)
                    ),
                )
            self.book.issue(entry, by, self.today)
        return self.book.entries[number]

    def _hold_approvable(self, entry: Entry, by: str) -> None:
        bill = entry.bill
        if entry.issued_on:
            raise KosekiError(
                _("a bill that was issued stays as it is"),
                f"{bill.number}, {entry.issued_on}",
                _("a corrected cost makes a settlement: `koseki costs settle {year}`").format(
                    year=bill.fiscal_year
                ),
            )
        if by == bill.made_by:
            raise KosekiError(
                _("a bill is approved by another person than its maker"),
                by,
                _(
                    "let another operator approve it: `koseki costs approve {number} --by OPERATOR`"
                ).format(number=bill.number),
            )
        drafts = [
            other.bill.number
            for other in self.book.entries.values()
            if (other.bill.fiscal_year, other.bill.stage) == (bill.fiscal_year, bill.stage)
        ]
        if drafts[-1] != bill.number:
            raise KosekiError(
                _("a newer draft stands in its place"),
                bill.number,
                _("approve that one: `koseki costs approve {number} --by OPERATOR`").format(
                    number=drafts[-1]
                ),
            )

    def _made(
        self,
        fiscal_year: int,
        stage: Stage,
        by: str,
        due: date | None,
        as_of: date | None = None,
    ) -> Bill:
        before = self.book.issued(fiscal_year, *BILLED)
        self._hold_stage(fiscal_year, stage, before)
        rows, day = self.platform.municipalities, as_of or self.today
        divisions, lines = bills.owed(self.agreement, rows, fiscal_year, day, self.office)
        if not lines and stage != "settlement":
            raise bills.nothing_due(self.agreement, fiscal_year)
        if stage == "settlement":
            lines = bills.settled(lines, [entry.bill for entry in before], due)
        elif stage == "notice":
            _hold_due(lines)
        return Bill(
            number=self.book.next_number(fiscal_year, stage),
            fiscal_year=fiscal_year,
            stage=stage,
            made_on=day,
            made_by=by,
            settles=before[-1].bill.number if before else None,
            agreement=self.agreement.id,
            title=self.agreement.title,
            host=self.agreement.host,
            names={row.code6: row.name for row in rows},
            heads={row.code6: row.signatory or f"{row.name}長" for row in rows},
            parts=[bills.part_of(division) for division in divisions],
            lines=lines,
        )

    def _hold_stage(self, fiscal_year: int, stage: Stage, before: Sequence[Entry]) -> None:
        if stage == "settlement" and not before:
            raise KosekiError(
                _("nothing was billed that could be settled"),
                str(fiscal_year),
                _("bill it first: `koseki costs bill {year}`").format(year=fiscal_year),
            )
        if stage != "settlement" and before:
            raise KosekiError(
                _("this fiscal year was billed, and a bill that was issued stays as it is"),
                before[0].bill.number,
                _("a corrected cost makes a settlement: `koseki costs settle {year}`").format(
                    year=fiscal_year
                ),
            )

    def pay(self, number: str, given: str, yen: int, on: date, by: str) -> int:
        """Record that a municipality paid, or was paid back; return the payment's number."""
        self.operator(by)
        code6 = code_of(self.platform.municipalities, given)
        if not 0 < yen <= MOST_YEN:
            raise KosekiError(
                _("a payment is more than nothing and at most {most} yen").format(most=MOST_YEN),
                str(yen),
                _("give what was paid (`--yen`)"),
            )
        with self.book.alone():
            entry = self.book.entry(number)
            self._hold_payable(entry, code6, on)
            if yen > entry.open(code6):
                raise KosekiError(
                    _("more than what is still open of this bill"),
                    _("{yen:,} yen; {open:,} are open").format(yen=yen, open=entry.open(code6)),
                    _("see what was noted of it: `koseki costs status`"),
                )
            return self.book.pay(entry, code6, yen, on, by)

    def _hold_payable(self, entry: Entry, code6: str, on: date) -> None:
        bill = entry.bill
        if entry.issued_on is None or bill.stage == "planned" or code6 not in bill.payers():
            raise KosekiError(
                _("nothing is to be paid by this paper"),
                f"{bill.number} {code6}",
                _("name a notice or a settlement that was issued to it: `koseki costs status`"),
            )
        if not entry.issued_on <= on <= self.today:
            raise KosekiError(
                _("paid before the bill was issued, or on a day to come"),
                str(on),
                _("give a day from {first} to {last} (`--on`)").format(
                    first=entry.issued_on, last=self.today
                ),
            )

    def take_back(self, number: int, reason: str, by: str) -> None:
        """Record that a payment was noted by mistake; it stays in the ledger."""
        self.operator(by)
        with self.book.alone():
            self.book.take_back(self.book.payment(number), reason, by)

    def findings(self, fiscal_years: Sequence[int]) -> list[Finding]:
        """Read the book; return what is late or no longer right of these fiscal years."""
        self.book.read()
        return [finding for year in fiscal_years for finding in self._findings(year)]

    def _findings(self, year: int) -> list[Finding]:
        found = []
        stages = {
            entry.bill.stage for entry in self.book.issued(year, "planned", "notice", "settlement")
        }
        for stage, day in bills.dates(self.agreement, year, self.office).items():
            issued = stages & ({"planned", "notice"} if stage == "planned" else {stage})
            if not issued and self.today > day:
                what = _("not out by {day}: {stage}").format(stage=stage_name(stage), day=day)
                found.append(Finding(year, what, command(year, stage)))
        before = self.book.issued(year, *BILLED)
        if before and self._differs(year, before):
            what = _("what is known now differs from what was billed")
            found.append(Finding(year, what, command(year, "settlement")))
        return found + [one for entry in before for one in self._overdue(entry)]

    def _differs(self, year: int, before: Sequence[Entry]) -> bool:
        rows = self.platform.municipalities
        lines = bills.owed(self.agreement, rows, year, self.today, self.office)[1]
        now = bills.settled(lines, [entry.bill for entry in before], None)
        return any(line.balance for line in now)

    def _overdue(self, entry: Entry) -> list[Finding]:
        bill, found = entry.bill, []
        for code6 in bill.payers():
            over = sum(
                line.balance
                for line in bill.lines
                if line.code6 == code6 and line.due and line.due < self.today
            )
            missing = abs(over) - entry.paid(code6)
            if missing > 0:
                what = _("{number}: {name}: {yen:,} yen are overdue").format(
                    number=bill.number, name=bill.names[code6], yen=missing
                )
                remedy = _("ask there, or note it: `koseki costs pay {number} {code6}`").format(
                    number=bill.number, code6=code6
                )
                found.append(Finding(bill.fiscal_year, what, remedy))
        return found


def stage_name(stage: Stage) -> str:
    """Return what a stage is called."""
    names = {
        "planned": _("the planned amounts"),
        "notice": _("the bill"),
        "settlement": _("the settlement"),
    }
    return names[stage]


def command(year: int, stage: Stage) -> str:
    """Return the command that drafts a stage of a fiscal year."""
    if stage == "settlement":
        return f"`koseki costs settle {year} --due DATE --by OPERATOR`"
    planned = " --planned" if stage == "planned" else ""
    return f"`koseki costs bill {year}{planned} --by OPERATOR`"


def _command(bill: Bill) -> str:
    return command(bill.fiscal_year, bill.stage)


def _hold_due(lines: Sequence[Line]) -> None:
    for line in lines:
        if line.due is None:
            raise KosekiError(
                _("a bill names the day by which it is paid, and that year's holidays are not out"),
                f"{line.item}, {line.agreed}",
                _("bill it when they are published; until then `koseki costs bill --planned`"),
            )
