"""Search: the order is that of BM25 computed the slow way, filters keep exactly what they say, and no text or question does harm."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.findings import Findings
from core.findings.search.question import Question
from core.findings.search.ranking import Ranking, library, rarity
from core.findings.search.search import Search
from core.findings.search.words import Asked, excerpt, marked, words_of
from core.workspace import Workspace
from tests.searchable import SENTENCES, UNITS, Text, fill, slow_scores, texts

ROOT = Path(__file__).resolve().parents[2]
ALL = 10_000


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace.open(tmp_path_factory.mktemp("search") / "ws")
    fill(workspace)
    return workspace


@pytest.fixture(scope="module")
def search(filled: Workspace) -> Search:
    return Search(filled)


@pytest.fixture(scope="module")
def known(filled: Workspace) -> list[Text]:
    return texts(filled)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello_World, it's 1.5k", ["hello", "world", "it", "s", "1", "5k"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("e\u0301tude étude ÉTUDE", ["étude", "étude", "étude"]),
        ("東京タワーは 강물을", ["東", "京", "タ", "ワ", "ー", "は", "강", "물", "을"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("ﬁne ＡＢＣ", ["fine", "abc"]),
        ("--- \u202e\u200d %$", []),
        ("x" * 100, ["x" * 48]),
    ],
)
def test_words_of_every_script_are_the_same_however_they_are_written(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_the_last_word_is_unfinished_until_something_follows_it() -> None:
    assert Asked.read("the riv").beginning == "riv"
    assert Asked.read("the riv ").beginning == ""
    assert Asked.read("the r").beginning == ""
    assert Asked.read("東京").beginning == ""
    assert Asked.read("a b a").words == ("a", "b")


def test_words_are_marked_where_they_stand() -> None:
    assert marked("See STRASSE, Straßen.", Asked.read("straße")) == [
        ("See ", False), ("STRASSE", True), (", ", False), ("Straßen", True), (".", False),
    ]  # fmt: skip
    long = "nothing " * 60 + "river " + "nothing " * 60
    cut = excerpt(long, Asked.read("river"), 80)
    assert "river" in cut
    assert len(cut) <= 86


@given(st.text(max_size=80), st.text(max_size=40))
def test_marked_pieces_are_the_text_itself(text: str, question: str) -> None:
    pieces = marked(text, Asked.read(question))
    assert "".join(piece for piece, _ in pieces) == text
    assert all(piece for piece, _ in pieces)


@pytest.mark.parametrize(
    "question", ["river", "riv", "river ", "the river bridge", "Paris music", "東京", "москв", "strasse", "numbers and a river", "é", "42"]
)
def test_the_order_is_that_of_bm25(search: Search, known: list[Text], question: str) -> None:
    found = search.find(Question(question), limit=ALL)
    scores = slow_scores(known, question)
    expected = sorted((score for score in scores if score > 0), reverse=True)
    assert found.total == len(expected) == len(found.hits)
    np.testing.assert_allclose([hit.score for hit in found.hits], expected, rtol=1e-4)
    by_text = {(text.kind, text.unit, text.text): score for text, score in zip(known, scores, strict=True)}
    for hit in found.hits:
        assert by_text[hit.kind, "" if hit.unit is None else str(hit.unit), hit.text] == pytest.approx(hit.score, rel=1e-4)


def test_bm25_is_that_of_the_library(known: list[Text]) -> None:
    held = [text.words for text in known if text.words]
    vocabulary = sorted({word for words in held for word in words})
    lengths = np.array([len(words) for words in held])
    places = np.array([vocabulary.index(word) for words in held for word in words])
    ours = Ranking.build(vocabulary, places, lengths, np.full(len(held), lengths.mean()))
    theirs: Any = library().BM25(method="lucene")
    theirs.index(held, show_progress=False)
    for word in ("river", "numbers", "the"):
        frequency = ours.scores([word])
        assert frequency is not None
        np.testing.assert_allclose(frequency * rarity(len(held), ours.holding(word)), theirs.get_scores([word]), rtol=1e-5)


def test_pages_follow_one_another(search: Search) -> None:
    everything = search.find(Question("river the"), limit=ALL).hits
    pages = [hit for offset in range(0, len(everything), 3) for hit in search.find(Question("river the"), limit=3, offset=offset).hits]
    assert tuple(pages) == everything
    assert search.find(Question("river the"), limit=3, offset=ALL).hits == ()


FILTERS: list[tuple[dict[str, Any], Callable[[Text], bool]]] = [
    ({"kinds": ("explanation",)}, lambda text: text.kind == "explanation"),
    ({"kinds": ("note", "own", "label")}, lambda text: text.kind in ("note", "own", "label")),
    ({"kinds": ("tokens",), "layers": (1,)}, lambda text: text.kind == "tokens" and "/mlp.1/" in text.unit),
    ({"subject": "tiny"}, lambda text: bool(text.unit)),
    ({"subject": "other"}, lambda text: False),
    ({"site_kind": "mlp", "layers": (0, 2)}, lambda text: "/mlp.0/" in text.unit or "/mlp.2/" in text.unit),
    ({"site_kind": "attn"}, lambda text: False),
    ({"basis": "neurons"}, lambda text: bool(text.unit)),
    ({"basis": "tied"}, lambda text: False),
    ({"labelled": True}, lambda text: text.unit in (str(UNITS[0]), str(UNITS[4]))),
    ({"author": "Ada"}, lambda text: text.author == "Ada"),
    ({"author": "Cleo"}, lambda text: text.author == "Cleo"),
    ({"author": "nobody"}, lambda text: False),
    ({"least": 0.9}, lambda text: text.rho is not None and text.rho >= 0.9),
    ({"least": -1.0}, lambda text: text.rho is not None),
    ({"labelled": True, "kinds": ("explanation",), "layers": (0,)}, lambda text: text.unit == str(UNITS[0]) and text.kind == "explanation"),
]


@pytest.mark.parametrize(("filters", "keeps"), FILTERS)
def test_a_filter_keeps_what_it_says(search: Search, known: list[Text], filters: dict[str, Any], keeps: Callable[[Text], bool]) -> None:
    question = "river the on bread"
    found = search.find(Question(question, **filters), limit=ALL)
    expected = [text for text, score in zip(known, slow_scores(known, question), strict=True) if score > 0 and keeps(text)]
    assert found.total == len(expected)
    assert sorted((hit.kind, str(hit.unit or ""), hit.text) for hit in found.hits) == sorted((t.kind, t.unit, t.text) for t in expected)


def test_what_the_filters_can_be_set_to(search: Search) -> None:
    assert search.choices() == {
        "subjects": ["tiny"],
        "site_kinds": ["mlp"],
        "bases": ["neurons"],
        "authors": ["Ada", "Ben", "Cleo", "pattern"],
    }
    counts = search.counts()
    assert (counts["explanation"], counts["note"], counts["label"], counts["own"], counts["collection"]) == (len(SENTENCES), 2, 2, 1, 1)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question("x" * 501), "501 characters"),
        (Question("x", kinds=("poem",)), "is not a kind of text"),  # pyright: ignore[reportArgumentType]
        (Question("x", site_kind="moon"), "is not a kind of site"),
        (Question("x", least=2.0), "is not a score"),
        (Question("x", least=float("nan")), "is not a score"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(search: Search, question: Question, said: str) -> None:
    with pytest.raises(AtlasError, match=said):
        search.find(question)


@given(st.text(max_size=120))
def test_any_question_is_answered(search: Search, text: str) -> None:
    found = search.find(Question(text), limit=5)
    assert len(found.hits) <= min(5, found.total)


def test_hostile_texts_are_found_by_their_words_as_they_are(search: Search) -> None:
    assert SENTENCES[5] in [hit.text for hit in search.find(Question("alert")).hits]
    assert search.find(Question("' OR 1=1 --")).hits[0].text == SENTENCES[5]
    assert search.find(Question("% _ \\ --")).total == 0


def test_a_fork_is_found_by_both_of_its_sides(workspace: Workspace, tmp_path: Path) -> None:
    here, there = Findings(workspace, "Ada"), Findings(Workspace.open(tmp_path / "there"), "Ben")
    note = here.save_note(UNITS[0], "about rivers")
    there.merge(here.rows())
    there.save_note(UNITS[0], "about lakes", entry=note.id, base=note.base)
    here.save_note(UNITS[0], "about oceans", entry=note.id, base=note.base)
    here.merge(there.rows())
    search = Search(workspace)
    assert [search.find(Question(word)).total for word in ("rivers", "lakes", "oceans")] == [0, 1, 1]


def test_searching_loads_neither_numba_nor_scipy() -> None:
    code = "import sys; from core.findings.search import ranking, search; ranking.library(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "bm25s" in loaded
    assert not loaded & {"numba", "scipy", "jax", "torch", "transformers"}
