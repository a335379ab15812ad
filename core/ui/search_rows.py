"""What the search found as rows: the unit, the text with the words that were looked for marked, what it is, its score. And as CSV."""

import csv
import html
import io
from collections.abc import Sequence

from core.findings.search.question import Found, Hit
from core.findings.search.words import Asked, excerpt, marked
from core.ui import nav
from core.ui.searching import ONE, text_of, unit_here
from core.ui.spreadsheet import inert

CSV_COLUMNS = ("unit", "kind", "text", "author", "rho", "score", "id")
_LONGEST = 320

STYLE = """<style>
.nsr {width: 100%; border-collapse: collapse; font-size: .92rem}
.nsr th {text-align: left; font-weight: 400; font-size: .78rem; color: var(--na-muted); padding: .2rem .8rem .2rem 0;
  border-bottom: 1px solid var(--na-hairline)}
.nsr td {vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid var(--na-hairline); overflow-wrap: anywhere}
.nsr td.what, .nsr td.who, .nsr .rho {color: var(--na-muted); font-size: .82rem; font-variant-numeric: tabular-nums}
.nsr td.unit, .nsr td.what {white-space: nowrap}
.nsr td.said {width: 62%}
.nsr .rho {text-align: right}
.nsr mark {background: none; color: inherit; font-weight: 650; text-decoration: underline; text-decoration-color: var(--na-accent);
  text-decoration-thickness: 2px; text-underline-offset: 3px}
@media (max-width: 800px) {
  .nsr thead {display: none}
  .nsr tr {display: block; border-bottom: 1px solid var(--na-hairline); padding: .4rem 0}
  .nsr td {display: inline; border: 0; padding: 0 .6rem 0 0}
  .nsr td.said {display: block; width: auto}
  .nsr td.unit {white-space: normal}
  .nsr td.rho:not(:empty)::before {content: "ρ "}
}
</style>"""


def rows_html(found: Found) -> str:
    """A table of hits, inert whatever the texts are."""
    head = "".join(f'<th class="{name}">{words}</th>' for name, words in (("", "unit"), ("", ""), ("", "what"), ("rho", "ρ"), ("", "by")))
    body = "".join(_row(hit, found.asked) for hit in found.hits)
    return f'<table class="nsr"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'


def to_csv(hits: Sequence[Hit]) -> str:
    """The columns of `CSV_COLUMNS`. A text that a spreadsheet would take for a formula is kept as text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for hit in hits:
        rho = "" if hit.rho is None else f"{hit.rho:.4f}"
        writer.writerow([hit.unit or "", hit.kind, inert(hit.text), inert(hit.author), rho, f"{hit.score:.4f}", hit.identity])
    return out.getvalue()


def marked_html(text: str, asked: Asked, longest: int = _LONGEST) -> str:
    """A text around the words that were looked for, those marked, as inert HTML."""
    pieces = marked(excerpt(text, asked, longest), asked)
    return "".join(f"<mark>{html.escape(piece)}</mark>" if hit else html.escape(piece) for piece, hit in pieces)


def _row(hit: Hit, asked: Asked) -> str:
    if hit.unit is not None:
        unit = unit_here(hit.unit, hit.identity if hit.kind == "explanation" else "")
    else:
        address = html.escape(nav.address("findings", {"collection": hit.identity}), quote=True)
        unit = f'<a href="{address}" target="_self">open it</a>'
    rho = "" if hit.rho is None else f"{hit.rho:.2f}".replace("-", "−")
    cells = (
        ("unit", unit), ("said", f'<bdi dir="auto">{marked_html(text_of(hit), asked)}</bdi>'), ("what", ONE[hit.kind]), ("rho", rho),
        ("who", f"<bdi>{html.escape(hit.author)}</bdi>"),
    )  # fmt: skip
    return "<tr>" + "".join(f'<td class="{name}">{cell}</td>' for name, cell in cells) + "</tr>"
