"""A report: units as one HTML file that needs nothing else. It has no script, asks for no other file, and follows the reader's theme."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import AtlasError, explain_os_error
from core.findings.report.gathered import gather
from core.findings.report.text import escaped, level_styles
from core.findings.report.unit import unit_html
from core.units import UnitName
from core.workspace import Workspace, write_atomic

MOST_UNITS = 200
WIDE = ' class="wide"'
_STYLE = Path(__file__).with_name("report.css").read_text("utf8")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may do with the file: draw it. A token that were taken for markup by a bug could still load and run nothing."""


@dataclass(frozen=True)
class Written:
    """A report that was written."""

    path: Path
    units: int
    bytes: int


def write_report(
    workspace: Workspace, units: Sequence[UnitName], path: Path, *, title: str = "", description: str = "", run: str | None = None
) -> Written:
    """Write the report of some units, in the order given. run: the index run; the one over most tokens if not given. Raises AtlasError."""
    chosen = list(dict.fromkeys(units))
    if not chosen:
        raise AtlasError("There is nothing to report: name at least one unit, or a collection with units in it.")
    if len(chosen) > MOST_UNITS:
        raise AtlasError(f"A report takes at most {MOST_UNITS} units, not {len(chosen):,}: write several, or export a bundle.")
    return put(path, len(chosen), lambda: report_html(workspace, chosen, title=title, description=description, run=run))


def put(path: Path, units: int, content: Callable[[], str]) -> Written:
    """Make a page and write it, whole or not at all. Raises AtlasError, before anything is made where the file cannot be."""
    if path.is_dir() or not path.parent.is_dir():
        raise AtlasError(f"{path} cannot be written: name a file in a folder that is there, such as {path.parent / 'units'}.html.")
    made = content().encode()
    try:
        write_atomic(path, made)
    except OSError as error:
        raise explain_os_error(error, f"writing {path}") from None
    return Written(path, units, len(made))


def report_html(workspace: Workspace, units: Sequence[UnitName], *, title: str = "", description: str = "", run: str | None = None) -> str:
    """The whole page. Raises AtlasError."""
    articles = [unit_html(gather(workspace, unit, run), f"u{at}") for at, unit in enumerate(units)]
    heading = title or (str(units[0]) if len(units) == 1 else f"{len(units)} units")
    about = f'<p class="words">{escaped(description[:4000])}</p>' if description else ""
    links = "".join(f'<li><a href="#u{at}">{escaped(str(unit))}</a></li>' for at, unit in enumerate(units)) if len(units) > 1 else ""
    return document(heading, about + (f"<nav><ol>{links}</ol></nav>" if links else ""), articles)


def document(heading: str, head: str, articles: Iterable[str], *, wide: bool = False) -> str:
    """A whole page that needs nothing else. head, articles: HTML. wide: for what stands side by side."""
    made = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escaped(heading)}</title><style>{_STYLE}{level_styles()}</style></head>",
            f"<body{WIDE if wide else ''}><main><header><h1>{escaped(heading)}</h1>",
            f'<p class="quiet">Neuron Atlas, {made} UTC</p>{head}</header>',
            *articles,
            "</main></body></html>",
        ]
    )
