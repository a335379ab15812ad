"""Reports: one HTML file a choice of units, with nothing in it that runs, loads or is larger than promised."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from core.autointerp import study_tables
from core.autointerp.studies import study_settings
from core.cli import main
from core.errors import AtlasError
from core.findings.findings import Findings
from core.findings.report.comparison import comparison_html, write_comparison
from core.findings.report.gathered import Gathered, gather
from core.findings.report.page import report_html, write_report
from core.findings.report.study import study_html, study_records, write_study
from core.findings.report.text import escaped, levels
from core.findings.report.unit import MOST_BYTES, unit_html
from core.store.compare.compared import compare, load_views
from core.store.explained import load_explained
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace
from tests.shared_bundle import UNITS, fill
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, chat_setting, write_synthetic_explanations

_PARTS = "html head meta title style body main header nav article details summary"
_WORDS = "h1 h2 h3 h4 p ol li a dl div dt dd blockquote table tr th td b i small span svg rect text path"
ALLOWED = {*_PARTS.split(), *_WORDS.split()}


class Found(HTMLParser):
    """Every element and attribute of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [str(value) for name, value in attrs if name in ("href", "src", "action", "data", "srcset", "xlink:href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("report") / "ws")
    fill(workspace)
    return workspace


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("hostile") / "ws")
    write_synthetic_index(workspace, hostile=True)
    return workspace


STUDIED = [f"tiny/mlp.{layer}/neurons/{unit}" for layer in range(2) for unit in range(5)]


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A study of five settings, in which one unit has no number; and one by layer."""
    workspace = Workspace.open(tmp_path_factory.mktemp("studied") / "ws")
    write_synthetic_index(workspace, n_layers=2, width=12)
    quality = {name: Quality(noise=0.4) for name in STUDIED} | {STUDIED[0]: Quality(flat=True)}
    settings = [replace(one, label=f"<b>{one.label}") for one in study_settings("records", chat_setting(), [])]
    write_synthetic_explanations(workspace, run="explain-study", units=STUDIED, settings=settings, quality=quality, study="records")
    write_synthetic_explanations(workspace, run="explain-layer", units=STUDIED, study="layer")
    write_synthetic_explanations(workspace, run="explain-bases", units=STUDIED, study="interpretability")
    return workspace


def safe(page: str) -> Found:
    """The page, which loads, runs and links to nothing, and whose elements are closed."""
    found = Found(page)
    assert found.open == []
    assert found.elements <= ALLOWED
    assert not [name for name in found.attributes if name.startswith("on") or name == "style"]
    assert all(re.fullmatch(r"#u\d+", address) for address in found.addresses)
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import|expression", style)
    assert "default-src 'none'" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", page)
    return found


def test_a_report_has_everything_of_a_unit(filled: Workspace) -> None:
    page = report_html(filled, UNITS)
    words = "".join(Found(page).words)
    view = load_unit(filled, UNITS[0])
    for said in ("Fires on the word number 5.", "by Ada", "Strongest", "Top tokens", "What it writes", "Ablated", "Active together", "ρ"):
        assert said in words, said
    assert f"{int(view.stats['tokens']):,} tokens" in words
    assert view.index.subject["weights_hash"] in words
    explanation = gather(filled, UNITS[0]).explanations[0].headline()
    assert explanation is not None
    assert f"{explanation.score.rho:.3g}".replace("-", "−") in words
    assert all(str(unit) in words for unit in UNITS)


def test_a_report_asks_for_nothing_and_runs_nothing(filled: Workspace, hostile: Workspace) -> None:
    units = [UnitName.parse(f"tiny/mlp.{layer}/neurons/{unit}") for layer in range(3) for unit in range(16)]
    for page in (report_html(filled, UNITS, title="<script>1</script>"), report_html(hostile, units, description="<img src=x onerror=1>")):
        safe(page)


def test_a_note_is_shown_as_it_was_written(filled: Workspace) -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in report_html(filled, UNITS[:1])


def test_a_unit_never_takes_more_than_its_room(hostile: Workspace) -> None:
    """Also with long contexts of tokens that escape to many bytes, and with texts of the largest size everywhere."""
    found = gather(hostile, UnitName.parse("tiny/mlp.0/neurons/0"))
    record = found.view.bands["top"][0]
    worst = int(max(range(found.vocab.size), key=lambda token: len(escaped(found.vocab.pieces([token])[0]))))
    tokens, activations = np.full(4096, worst, np.int32), np.linspace(-1, 1, 4096, dtype=np.float32)
    long = replace(record, tokens=tokens, activations=activations, position=2000, document="&" * 4000)
    bands = {band: [long] * 20 for band in found.view.bands}
    deep = {f"&{key}" * 100: "&" * 5000 for key in range(300)}
    view = replace(found.view, bands=bands, provenance=deep)
    made = unit_html(replace(found, view=view), "u0")
    assert len(made.encode()) <= MOST_BYTES
    assert made.endswith("</article>")
    Found(made)


def test_a_usual_report_is_far_below_the_limit(filled: Workspace, tmp_path: Path) -> None:
    done = write_report(filled, UNITS, tmp_path / "four.html")
    assert done.bytes == (tmp_path / "four.html").stat().st_size < 250_000 * len(UNITS)


def test_marks_grow_with_the_activation_and_zero_has_none() -> None:
    values = np.array([0, 0.001, 0.1, 0.5, 1, 2, -1], np.float32)
    found = levels(values, 1.0)
    assert found[:2] == ["", ""]
    assert [int(mark[1:]) for mark in found[2:6]] == sorted(int(mark[1:]) for mark in found[2:6])
    assert found[4:] == ["p15", "p15", "n15"]
    assert levels(values, 0.0) == [""] * 7


def test_the_command_writes_units_and_collections(filled: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    collections = Findings(filled, "Ada").collections
    collections.add(collections.create("Lists & more", "About <lists>").id, UNITS[:2])
    out = tmp_path / "r.html"
    assert main(["report", "Lists & more", str(UNITS[2]), "--html", str(out), "--json", "--workspace", str(filled.path)]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == 3
    page = out.read_text("utf8")
    assert "<h1>Lists &amp; more</h1>" in page
    assert "About &lt;lists&gt;" in page
    assert main(["report", str(UNITS[0]), "--html", str(tmp_path / "no" / "r.html"), "--workspace", str(filled.path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_nothing_to_report_is_a_sentence(filled: Workspace, tmp_path: Path) -> None:
    with pytest.raises(AtlasError, match="name at least one unit"):
        write_report(filled, [], tmp_path / "r.html")
    with pytest.raises(AtlasError, match="at most 200 units"):
        write_report(filled, [UnitName.parse(f"tiny/mlp.0/neurons/{at}") for at in range(201)], tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_has_its_units_and_what_they_share(filled: Workspace) -> None:
    compared = compare(filled, load_views(filled, UNITS))
    words = "".join(safe(comparison_html(filled, compared)).words)
    for said in (
        "What they have in common",
        "A and B",
        "C and D",
        "Shared contexts",
        "Strongest",
        "Ablated",
        "What people wrote",
        "by chance",
    ):
        assert said in words, said
    assert all(str(unit) in words for unit in UNITS)
    (exact,) = compared.pairs[-1].together
    assert f"({exact.both:,} of {exact.active[0]:,} and {exact.active[1]:,})" in words
    assert exact.told in words
    assert words.count("Provenance of") == len(UNITS)


def test_a_comparison_of_hostile_units_is_inert_and_small(hostile: Workspace, tmp_path: Path) -> None:
    units = [UnitName.parse(f"tiny/mlp.{layer}/neurons/{unit}") for layer, unit in ((0, 0), (1, 8), (2, 0), (0, 8))]
    for many in (2, 4):
        done = write_comparison(hostile, units[:many], tmp_path / "c.html")
        page = (tmp_path / "c.html").read_text("utf8")
        safe(page)
        assert done.bytes == len(page.encode()) < 250_000 * many
        assert page.count('<div class="lettered">') >= 1
    assert "&lt;script&gt;" in page


def test_a_comparison_never_takes_more_than_its_units_room(hostile: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the longest contexts of the tokens that escape to most bytes, and the largest texts everywhere."""
    units = [UnitName.parse(f"tiny/mlp.{layer}/neurons/{unit}") for layer, unit in ((0, 0), (1, 8))]
    compared = compare(hostile, load_views(hostile, units))
    one = gather(hostile, units[0])
    worst = int(max(range(one.vocab.size), key=lambda token: len(escaped(one.vocab.pieces([token])[0]))))
    tokens, activations = np.full(4096, worst, np.int32), np.linspace(-1, 1, 4096, dtype=np.float32)
    record = replace(one.view.bands["top"][0], tokens=tokens, activations=activations, position=2000, document="&" * 4000)
    shared = replace(compared.shared[0], record=record, activations=(activations, None), peak=2000)

    def bloated(workspace: Workspace, unit: UnitName, run: str | None = None) -> Gathered:
        found = gather(workspace, unit, run)
        deep = {f"&{key}" * 100: "&" * 5000 for key in range(300)}
        return replace(found, view=replace(found.view, bands=dict.fromkeys(found.view.bands, [record] * 20), provenance=deep))

    monkeypatch.setattr("core.findings.report.comparison.gather", bloated)
    page = comparison_html(hostile, replace(compared, shared=(shared,) * 50))
    assert len(page.encode()) <= 250_000 * len(units)
    safe(page)


def test_a_study_of_any_size_has_one_units_room(studied: Workspace) -> None:
    records = study_records(studied, load_explained(studied, "explain-study"))
    many = [
        {
            **one,
            "unit_place": place,
            "setting_place": setting,
            "setting": f"<b>{setting}" * 40,
            "layer": setting,
            "basis": f"&{setting % 7}" * 30,
        }
        for one in records[:1]
        for place in range(300)
        for setting in range(90)
    ]
    for run in ("explain-study", "explain-layer", "explain-bases"):
        page = study_html(studied, run, many)
        assert len(page.encode()) <= 250_000, run
        safe(page)
    assert "The first 60 of 90 settings" in study_html(studied, "explain-study", many)


def test_scores_that_no_correlation_can_have_do_not_stretch_the_figure(studied: Workspace) -> None:
    records = study_records(studied, load_explained(studied, "explain-study"))
    wild = [{**one, "rho": 1e9} for one in records]
    for run in ("explain-study", "explain-bases"):
        assert study_html(studied, run, wild).count('class="axis"') <= 11, run


def test_the_rows_of_a_shared_context_are_the_units_own_numbers(filled: Workspace) -> None:
    compared = compare(filled, load_views(filled, UNITS[2:]))
    page = comparison_html(filled, compared)
    first = compared.shared[0]
    for values, unit in zip(first.activations, compared.units, strict=True):
        assert values is not None
        peak = float(values[first.peak])
        assert f'title="{peak:.3g}"'.replace("-", "−") in page, unit.view.name
        assert unit.largest >= abs(peak)


def test_a_study_has_its_figure_its_table_and_every_difference(studied: Workspace) -> None:
    run = load_explained(studied, "explain-study")
    records = study_records(studied, run)
    page = study_html(studied, run.run, records)
    words = "".join(safe(page).words)
    table = study_tables.by_setting(records)
    for line in table.lines:
        assert f"{line.score.value:.2f} [{line.score.low:.2f}, {line.score.high:.2f}]".replace("-", "−") in words
    assert page.count("zero is") == 10, "five settings make ten pairs"
    assert "number of shown records" in words.lower()
    assert "over the 9 units that have a number under every setting" in words
    assert "undefined" in words
    assert all(name in words for name in STUDIED)
    assert page.count("<svg") == 1 + 3
    assert page.count('class="mark simulated"') == 5 + 1
    assert "&lt;b&gt;" in page


def test_the_differences_in_a_study_are_of_the_same_units(studied: Workspace) -> None:
    records = study_records(studied, load_explained(studied, "explain-study"))
    rho = {(one["setting_place"], one["unit_place"]): one["rho"] for one in records}
    units = [place for place in range(len(STUDIED)) if all(rho[setting, place] == rho[setting, place] for setting in range(5))]
    assert len(units) == 9
    found = study_tables.pairwise(records)
    labels = list(dict.fromkeys(one["setting"] for one in records))
    assert [(one, other) for one, other, _ in found] == [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    for one, other, by in found:
        a, b = labels.index(one), labels.index(other)
        assert by.value == pytest.approx(np.mean([rho[a, unit] - rho[b, unit] for unit in units]))
        assert by.low <= by.value <= by.high


@pytest.mark.parametrize("name", ["layer", "explain-layer", "interpretability"])
def test_a_study_is_found_by_its_run_or_its_name(studied: Workspace, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.html"
    assert main(["report", "--study", name, "--html", str(out), "--json", "--workspace", str(studied.path)]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": str(out), "units": len(STUDIED), "bytes": out.stat().st_size}
    words = "".join(safe(out.read_text("utf8")).words)
    assert "mlp.0" in words
    assert "mlp.1" in words


def test_the_command_writes_a_comparison(filled: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c.html"
    units = [str(unit) for unit in UNITS[:3]]
    assert main(["report", "--compare", *units, "--html", str(out), "--json", "--workspace", str(filled.path)]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == 3
    assert "A and C" in out.read_text("utf8")


def test_what_cannot_be_compared_or_is_no_study_is_a_sentence(
    studied: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ["--html", str(tmp_path / "x.html"), "--workspace", str(studied.path)]
    for wrong, said in (
        (["--compare", STUDIED[0]], "Two to four units"),
        (["--compare", STUDIED[0], STUDIED[0]], "named twice"),
        (["--compare", STUDIED[0], "tiny/mlp.9/neurons/0"], "out of range"),
        (["--study", "nope"], "there is"),
        (["--study", "layer", "--run", "index-test"], "leave out --run"),
        ([], "name one of these"),
        ([STUDIED[0], "--study", "layer"], "name one of these"),
    ):
        assert main(["report", *wrong, *there]) == 2, wrong
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert said in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AtlasError, match="finished no explanation"):
        study_html(studied, "explain-study", [])
    with pytest.raises(AtlasError, match="in a folder that is there"):
        write_study(studied, "layer", tmp_path / "no" / "x.html")
