"""The stand-in's requests: which page, what it needs, what is answered."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import psycopg2
import psycopg2.errors

from koseki_sample import certificate, pages, registers
from koseki_sample.database import Pool
from koseki_sample.registers import NotThere, Refused
from koseki_sample.routes import NUMBER, ROUTES
from koseki_sample.settings import Settings

# A form of a counter is small.
BODY_LIMIT = 64 * 1024
# PostgreSQL's text holds every character but this one.
NOT_TEXT = "\0"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
STATUS = {
    200: "OK",
    303: "See Other",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    413: "Content Too Large",
    503: "Service Unavailable",
}


@dataclass(frozen=True)
class Response:
    """What is sent back."""

    body: bytes
    content_type: str = HTML
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


# What PostgreSQL says to who stands in while nothing is declared: by its rights, and by its login.
SHUT = ("permission denied for database", "no takeover of ")


class Bad(Exception):  # noqa: N818 - a request that is no question
    """A request that cannot be read; its status."""

    def __init__(self, status: int) -> None:
        """Keep the status."""
        super().__init__(STATUS[status])
        self.status = status


class TakenBack(Exception):  # noqa: N818 - how a transaction ends without a trace
    """What was written is not kept."""


def take_back() -> None:
    """End the transaction around, so that nothing of it stays."""
    raise TakenBack


@dataclass(frozen=True)
class Request:
    """One request, its text decoded; anything that is not UTF-8 was refused before."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    terminal: str

    @property
    def form(self) -> dict[str, str]:
        """The body as a form."""
        return fields(self.body)

    @classmethod
    def of(cls, environ: Mapping[str, Any]) -> Request:
        """Read a request; Bad when it is none."""
        length = str(environ.get("CONTENT_LENGTH") or "0")
        # What was read would be another body than what was sent.
        if "HTTP_TRANSFER_ENCODING" in environ or not (length.isascii() and length.isdecimal()):
            raise Bad(400)
        if int(length) > BODY_LIMIT:
            raise Bad(413)
        body = environ["wsgi.input"].read(int(length))
        if len(body) != int(length):
            raise Bad(400)
        query = fields(str(environ.get("QUERY_STRING") or "").encode("latin-1"))
        terminal = str(environ.get("HTTP_X_KOSEKI_TERMINAL", ""))
        return cls(environ["REQUEST_METHOD"], environ["PATH_INFO"], query, body, terminal)


def fields(encoded: bytes) -> dict[str, str]:
    """Return the fields of a form or query, exactly as typed; Bad when they are not UTF-8."""
    try:
        text = encoded.decode("ascii")
        found = parse_qs(
            text,
            keep_blank_values=True,
            strict_parsing=bool(text),
            errors="strict",
            max_num_fields=20,
        )
    except ValueError as error:
        raise Bad(400) from error
    if any(NOT_TEXT in value for values in found.values() for value in values):
        raise Bad(400)
    return {name: values[-1] for name, values in found.items()}


class Application:
    """One municipality's pages as a WSGI application."""

    def __init__(self, settings: Settings) -> None:
        """Know whose pages these are; the database is asked when a request needs it."""
        self.settings = settings
        self.counter = pages.Counter(settings.municipality, settings.path, settings.read_only)
        self.issuer = certificate.Issuer(
            settings.municipality, settings.signatory, settings.margin_note
        )
        # Who stands in is asked at each login whether it still may.
        self.pool = Pool(settings.database, keep=not settings.read_only)
        self.routes: list[tuple[str, re.Pattern[str], Callable[..., Response]]] = [
            (route.method, route.pattern(), getattr(self, route.handler))
            for route in ROUTES
            if route.everywhere or not settings.read_only
        ]

    def __call__(
        self, environ: Mapping[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Answer one request."""
        response = self.answer(environ)
        headers = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": (
                "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; "
                "frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            **response.headers,
        }
        start_response(f"{response.status} {STATUS[response.status]}", list(headers.items()))
        return [response.body]

    def answer(self, environ: Mapping[str, Any]) -> Response:
        """Return the answer; what cannot be done is a sentence, never a traceback."""
        try:
            self.admit(environ)
            return self.route(Request.of(environ), environ)
        except Bad as error:
            return Response(str(error).encode(), TEXT, error.status)
        except NotThere:
            return self.refuse("見つかりません。", 404)
        except Refused as error:
            return self.refuse(str(error), 409)
        except psycopg2.DataError:
            return self.refuse("記載が正しくありません。", 409)
        except psycopg2.OperationalError:
            return self.refuse(
                "データベースに接続できません。しばらくしてからやり直してください。", 503
            )

    def route(self, request: Request, environ: Mapping[str, Any]) -> Response:
        """Find who answers."""
        methods = set()
        for method, pattern, handler in self.routes:
            found = pattern.fullmatch(request.path)
            if found is None:
                continue
            if method != request.method:
                methods.add(method)
                continue
            # A form is sent by our own page, never by another site's in the same browser.
            if method == "POST" and environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in {
                "same-origin",
                "none",
            }:
                raise Bad(400)
            return handler(request, *(int(number) for number in found.groups()))
        raise Bad(405 if methods else 404)

    def html(self, text: str, status: int = 200) -> Response:
        """Return a page."""
        return Response(text.encode(), HTML, status)

    def refuse(self, sentence: str, status: int) -> Response:
        """Return a page that says why."""
        return self.html(pages.refused_page(self.counter, sentence), status)

    def admit(self, environ: Mapping[str, Any]) -> None:
        """While nothing is declared, whoever comes to who stands in is told nothing else: Bad 403.

        The platform itself, which comes past the gateway, may ask how the instance is.
        """
        itself = environ["PATH_INFO"] == "/health" and "HTTP_X_KOSEKI_TERMINAL" not in environ
        if not self.settings.read_only or itself:
            return
        try:
            with self.pool.transaction(read_only=True):
                pass
        except psycopg2.OperationalError as error:
            if self.is_shut(error):
                raise Bad(403) from error
            raise

    def is_shut(self, error: psycopg2.Error) -> bool:
        """Say whether this instance stands in and the database says that it may not now."""
        return self.settings.read_only and any(said in str(error) for said in SHUT)

    def health(self, _request: Request) -> Response:
        """Say whether the database answers and holds this release's schema.

        Who stands in may not look at that; it is well when it is let in, or told to wait.
        """
        schema, holds = 0, False
        try:
            with self.pool.transaction(read_only=True) as cursor:
                if not self.settings.read_only:
                    schema = registers.schema_version(cursor)
                holds = self.settings.read_only or schema >= self.settings.schema
        except psycopg2.Error as error:
            holds = self.is_shut(error)
        report = {
            "release": self.settings.version,
            "municipality": self.settings.code6,
            "schema": schema,
            "healthy": holds,
            "stand_in": True,
        }
        body = json.dumps(report, ensure_ascii=False).encode()
        return Response(body, "application/json", 200 if holds else 503)

    def search(self, request: Request) -> Response:
        """Find by the beginning of kana or name."""
        kana, name = request.query.get("kana", ""), request.query.get("name", "")
        rows = None
        if kana or name:
            with self.pool.transaction(read_only=True) as cursor:
                rows = registers.search(cursor, kana=kana, name=name)
        return self.html(pages.search_page(self.counter, rows))

    def register(self, _request: Request, number: int) -> Response:
        """Show a register."""
        with self.pool.transaction(read_only=True) as cursor:
            row, persons = registers.register(cursor, number)
        return self.html(pages.register_page(self.counter, row, persons))

    def filings(self, _request: Request) -> Response:
        """Show the receipt book."""
        with self.pool.transaction(read_only=True) as cursor:
            found = registers.filings(cursor)
        return self.html(pages.filings_page(self.counter, found))

    def receive(self, request: Request) -> Response:
        """Receive a filing."""
        form = request.form
        number = form.get("register", "")
        if not re.fullmatch(NUMBER, number):
            raise Bad(400)
        with self.pool.transaction() as cursor:
            registers.receive(
                cursor, form.get("kind", ""), int(number), form, form.get("operator", "")
            )
        return Response(b"", status=303, headers={"Location": "/filings"})

    def approve(self, request: Request, receipt: int) -> Response:
        """Approve a filing."""
        with self.pool.transaction() as cursor:
            number = registers.approve(cursor, receipt, request.form.get("operator", ""))
        return Response(b"", status=303, headers={"Location": f"/registers/{number}"})

    def issue(self, request: Request, number: int) -> Response:
        """Issue a certificate."""
        if self.settings.read_only:
            return self.issue_for_another(request, number)
        with self.pool.transaction() as cursor:
            issued = registers.issue(
                cursor,
                number,
                request.form.get("operator", ""),
                self.settings.signatory,
                lambda row, persons, taken, as_of: certificate.certificate(
                    row, persons, taken, as_of, self.issuer
                ),
            )
        return self.document(issued)

    def issue_for_another(self, request: Request, number: int) -> Response:
        """Issue a certificate for a municipality that is cut off, as it was at one moment."""
        with self.pool.transaction(read_only=True, one_moment=True) as cursor:
            as_of = registers.now(cursor)
            row, persons = registers.register(cursor, number)
        told = {
            "register": str(number),
            "issued_by": request.form.get("operator", ""),
            "terminal": request.terminal,
            "signatory": self.settings.signatory,
            "margin_note": self.settings.margin_note,
        }
        try:
            with self.pool.transaction() as cursor:
                issued = registers.issue_for_another(
                    cursor,
                    told,
                    as_of,
                    lambda given: certificate.certificate(row, persons, given, as_of, self.issuer),
                )
        except psycopg2.errors.InsufficientPrivilege as error:
            raise Bad(403) from error  # it ended while this was printed
        return self.document(issued)

    def document(self, issued: registers.Certificate) -> Response:
        """Return a certificate with its number and its data's time."""
        return Response(
            issued.pdf,
            "application/pdf",
            headers={
                "Certificate-Number": str(issued.number),
                "Data-Time": issued.as_of.isoformat(),
            },
        )

    def test_print(self, request: Request) -> Response:
        """Print a text that went to the database and back; nothing of it stays there."""
        try:
            text = request.body.decode()
        except UnicodeDecodeError as error:
            raise Bad(400) from error
        if NOT_TEXT in text:
            raise Bad(400)
        back = ""
        with suppress(TakenBack), self.pool.transaction() as cursor:
            back = registers.there_and_back(cursor, text)
            take_back()
        return Response(certificate.test_print(back), "application/pdf")
