"""The counter's pages: plain HTML, no script, everything in one response."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from koseki_sample.certificate import era
from koseki_sample.registers import CONTENT, Filing, Person, Row

FOOTER = "見本アプリケーション（stand-in）。登録内容はすべて架空のものです。"
FILING = '　<a href="filings">受付・決裁</a>'
LABELS = {
    "honseki": "新しい本籍",
    "name": "名",
    "kana": "かな",
    "born": "生年月日",
    "place": "番号",
}
# Where pages are shown when nothing else is said.
ROOT = "/"


@dataclass(frozen=True)
class Counter:
    """Whose pages, below which path, and whether anything can be filed here."""

    municipality: str
    path: str = ROOT
    read_only: bool = False


STYLE = """body{font-family:IPAmjMincho,serif;margin:2em;max-width:60em}
table{border-collapse:collapse}td,th{border:1px solid #888;padding:.3em .6em;text-align:left}
form{margin:1em 0}input{margin-right:1em}footer{margin-top:3em;color:#555;font-size:small}
.refused{color:#900}"""


def page(counter: Counter, title: str, body: str) -> str:
    """Return a whole page with the municipality's name and the stand-in's notice."""
    return (
        f'<!doctype html><html lang="ja"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<base href="{escape(counter.path)}">'
        f"<style>{STYLE}</style><h1>{escape(counter.municipality)}　戸籍</h1>"
        f'<nav><a href="./">検索</a>{"" if counter.read_only else FILING}</nav>'
        f"<h2>{escape(title)}</h2>{body}<footer>{FOOTER}</footer></html>"
    )


def search_page(counter: Counter, rows: Sequence[Row] | None) -> str:
    """Return the search form and what was found; None: nothing was asked yet."""
    body = """<form method="get" action="./"><label>かな <input name="kana"></label>
<label>氏名 <input name="name"></label><button>検索</button></form>"""
    if rows is not None:
        found = "".join(
            f'<tr><td><a href="registers/{row.id}">{row.id}</a></td>'
            f"<td>{escape(row.family_name)}　{escape(row.head_name)}</td>"
            f"<td>{escape(row.family_kana)}　{escape(row.head_kana)}</td>"
            f"<td>{escape(row.honseki)}</td></tr>"
            for row in rows
        )
        body += f"<p>{len(rows)}件</p><table>{found}</table>"
    return page(counter, "検索", body)


def register_page(counter: Counter, row: Row, persons: Sequence[Person]) -> str:
    """Return a register, the forms for its filings, and the button that issues a certificate."""
    people = "".join(
        f"<tr><td>{p.place}</td><td>{escape(p.name)}</td><td>{escape(p.kana)}</td>"
        f"<td>{era(p.born)}</td></tr>"
        for p in persons
    )
    forms = "".join(
        f'<form method="post" action="filings"><b>{kind}</b> '
        f'<input type="hidden" name="kind" value="{kind}">'
        f'<input type="hidden" name="register" value="{row.id}">'
        + "".join(f'<label>{LABELS[key]} <input name="{key}"></label>' for key in keys)
        + '<label>受付者 <input name="operator"></label><button>受付</button></form>'
        for kind, keys in CONTENT.items()
    )
    body = (
        f"<p>本籍　{escape(row.honseki)}</p>"
        f"<p>氏名　{escape(row.family_name)}　{escape(row.head_name)}</p><table>{people}</table>"
        f'<form method="post" action="registers/{row.id}/certificates">'
        '<label>発行者 <input name="operator"></label><button>証明書</button></form>'
        + ("" if counter.read_only else forms)
    )
    return page(counter, f"戸籍 {row.id}", body)


def filings_page(counter: Counter, filings: Sequence[Filing]) -> str:
    """Return the receipt book; what waits has a button for its approval."""
    rows = ""
    for filing in filings:
        content = "、".join(f"{LABELS[k]}：{v}" for k, v in filing.content.items())
        if filing.approved_by:
            end = f"決裁 {escape(filing.approved_by)}"
        else:
            end = (
                f'<form method="post" action="filings/{filing.receipt_number}/approve">'
                '<label>決裁者 <input name="operator"></label><button>決裁</button></form>'
            )
        rows += (
            f"<tr><td>{filing.receipt_number}</td><td>{filing.kind}</td>"
            f'<td><a href="registers/{filing.register_id}">{filing.register_id}</a></td>'
            f"<td>{escape(content)}</td><td>{escape(filing.received_by)}</td><td>{end}</td></tr>"
        )
    return page(counter, "受付・決裁", f"<table>{rows}</table>")


def refused_page(counter: Counter, sentence: str) -> str:
    """Return why something was not done."""
    return page(counter, "できません", f'<p class="refused">{escape(sentence)}</p>')
