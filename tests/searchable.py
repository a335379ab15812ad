"""A workspace to be searched: an index, explanations with chosen sentences, and what people wrote; and an obvious, slow search over it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from core.findings.findings import Findings
from core.findings.search.question import COMPLETED, COMPLETIONS
from core.findings.search.ranking import K1, B
from core.findings.search.words import Asked, words_of
from core.store.catalog import indexes
from core.store.explained import explained_runs
from core.store.parts import read_columns
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import write_synthetic_explanations

SENTENCES = (
    "Fires strongly on rivers and bridges over a river.",
    "Fires on the word river; weakly on *Paris*.",
    "Fires on words for music, also in 東京 and москва.",
    "Fires on numbers such as 7 and 42, riverbank or not.",
    "A river, a river, a river: nothing else.",
    "<script>alert('river')</script> \\ %_ ' OR 1=1 --",
)
UNITS = [UnitName.parse(f"tiny/mlp.{number % 3}/neurons/{number}") for number in range(len(SENTENCES))]


@dataclass(frozen=True)
class Text:
    """One text and what is known of it."""

    kind: str
    unit: str
    text: str
    author: str
    rho: float | None
    words: list[str]


def fill(workspace: Workspace) -> None:
    """An index, an explanation of each of UNITS, and findings of two people."""
    write_synthetic_index(workspace, n_layers=3, width=12, contexts=48, length=16)
    for number, (unit, sentence) in enumerate(zip(UNITS, SENTENCES, strict=True)):
        explain(workspace, f"explain-{number}", unit, sentence, author="pattern" if number % 2 else "Cleo")
    ada, ben = Findings(workspace, "Ada"), Findings(workspace, "Ben")
    ada.save_note(UNITS[1], "Rivers again:\n\nsee the **river** Spree, Straße, e\u0301tude.")
    ben.save_note(UNITS[2], "Ben thinks that it is about bread.")
    ada.label(UNITS[0], "water")
    ben.label(UNITS[4], "river")
    ben.explain(UNITS[3], "Numbers, and the river as a boundary")
    made = ada.collections.create("Wet places", "River units, most of them")
    ada.collections.add(made.id, UNITS[:2])


def explain(workspace: Workspace, run: str, unit: UnitName, sentence: str, *, author: str = "pattern") -> str:
    """A run with one explanation; its identity."""
    text = sentence.replace("{", "{{").replace("}", "}}")
    return write_synthetic_explanations(workspace, run=run, units=(str(unit),), text=text, authors=(author,))[0]


def texts(workspace: Workspace) -> list[Text]:
    """Everything that can be searched, read one by one with what the pages use."""
    found: list[Text] = []
    for entry in Findings(workspace).entries():
        kind = {"note": "note", "explanation": "own", "label": "label", "collection": "collection"}.get(entry.kind)
        if kind:
            text = entry.current.text + ("\n" + entry.current.body["description"] if kind == "collection" else "")
            found.append(Text(kind, str(entry.unit or ""), text, entry.current.by, None, words_of(text)))
    for run in explained_runs(workspace):
        for part in run.parts:
            rho = {
                row["explanation"]: row["rho"]
                for row in read_columns(run.path(part, "scores"), ["explanation", "role", "split", "rho"]).to_pylist()
                if row["role"] == "simulated"
            }
            rows = read_columns(run.path(part, "explanations"), ["explanation", "unit", "author", "text"]).to_pylist()
            found += [
                Text("explanation", row["unit"], row["text"], row["author"], rho[row["explanation"]], words_of(row["text"])) for row in rows
            ]
    for index in indexes(workspace):
        vocab = load_vocab(workspace, index.slug)
        for site in index.published:
            for number in index.units_of(site):
                name = UnitName(index.slug, site, index.basis, number)
                tokens = [each.token for each in load_unit(workspace, name).top_tokens if each.mean != 0]
                words = [word for token in tokens for word in words_of(vocab.bytes_of(token).decode("utf8", "ignore"))]
                if tokens:
                    found.append(Text("tokens", str(name), " ".join(map(vocab.label, tokens)), "", None, words))
    return found


def slow_scores(known: list[Text], question: str) -> list[float]:
    """BM25 as its formula is written, text by text."""
    asked = Asked.read(question)
    longer = sorted({word for text in known for word in text.words if asked.beginning and word.startswith(asked.beginning)})
    counts = {word: sum(word in text.words for text in known) for word in longer if word != asked.beginning}
    completions = sorted(counts, key=lambda word: (-counts[word], word))[:COMPLETIONS]
    groups: list[tuple[float, Iterable[str], int]] = [(1.0, [word], sum(word in text.words for text in known)) for word in asked.words]
    if completions:
        groups.append((COMPLETED, completions, min(len(known), sum(counts[word] for word in completions))))
    mean = {
        kind: sum(len(text.words) for text in known if text.kind == kind) / sum(text.kind == kind for text in known)
        for kind in {text.kind for text in known}
    }
    scores: list[float] = []
    for text in known:
        score = 0.0
        for weight, words, holding in groups:
            rare = math.log(1 + (len(known) - holding + 0.5) / (holding + 0.5))
            for word in words:
                times = text.words.count(word)
                score += weight * rare * times / (K1 * (1 - B + B * len(text.words) / max(1.0, mean[text.kind])) + times)
        scores.append(score)
    return scores
