"""Writes runs of kind `explain` over a synthetic index, with the program's own writer and its own scores.

What is simulated is made up here: the true activations with noise, or nothing at all, so that scores of every kind are there to be shown.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from core.autointerp.explanation import Example, Explanation, Simulation
from core.autointerp.files import Outcome, Role, Scored, Simulated, write_outcomes
from core.autointerp.pattern import Pattern
from core.autointerp.request import ExplainerChoice, Setting, SimulatorChoice
from core.autointerp.scoring import Kind, score
from core.autointerp.splits import Split, example, of_kind, split_records
from core.llm.endpoint import Endpoint
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.units import UnitName
from core.workspace import Workspace, write_json

ENDPOINT = Endpoint("http://127.0.0.1:9/v1", "test-model")


@dataclass(frozen=True)
class Quality:
    """How good a made-up simulation is. noise: relative to the spread of the truth. failing: the share of records without an answer.

    flat: the same value everywhere, whose score is undefined. distributions: over the integers 0 to 10.
    """

    noise: float = 0.3
    failing: float = 0.0
    flat: bool = False
    distributions: bool = True


def write_synthetic_explanations(
    workspace: Workspace,
    *,
    run: str = "explain-test",
    units: Sequence[str] = ("tiny/mlp.1/neurons/0",),
    settings: Sequence[Setting] = (Setting(),),
    quality: Mapping[str, Quality] | Quality = Quality(),
    steps: int = 1,
    split: Split = "test",
    controls: Sequence[Role] = ("lookup", "shuffled"),
    authors: Sequence[str] = ("pattern",),
    text: str = "Fires on the word number {unit}.",
    failed: str = "",
    study: str = "",
    state: str = "complete",
    per_part: int = 2,
    seed: int = 0,
    spend: Mapping[str, Any] | None = None,
) -> list[str]:
    """Write the run and return the identities of its explanations, in the run's order. The index must be there already.

    quality: of the simulations, by unit or for all. authors: one a setting, in turn. failed: every explanation failed with this reason.
    """
    folder = workspace.runs / run
    outcomes = [
        _outcome(
            workspace,
            run,
            (unit_place, setting_place, step),
            UnitName.parse(name),
            setting,
            quality if isinstance(quality, Quality) else quality.get(name, Quality()),
            split,
            controls,
            authors[setting_place % len(authors)],
            text.format(unit=name.rpartition("/")[2]),
            failed,
            seed,
        )
        for unit_place, name in enumerate(units)
        for setting_place, setting in enumerate(settings)
        for step in range(steps)
    ]
    parts = [
        write_outcomes(folder, number, chosen, [outcome.identity for outcome in chosen])
        for number, chosen in enumerate(outcomes[at : at + per_part] for at in range(0, len(outcomes), per_part))
    ]
    work = len(units) * len(settings)
    manifest = {
        "schema": 1,
        "kind": "explain",
        "run": run,
        "state": state,
        "generation": 1,
        "work_done": work,
        "work_total": work if state == "complete" else 2 * work,
        "study": study,
        "settings": [setting.to_json() for setting in settings],
        "units": len(units),
        "index": sorted({outcome.index for outcome in outcomes}),
        "parts": parts,
        "spend": None if spend is None else dict(spend),
        "provenance": {"code": "synthetic", "seed": seed},
    }
    params = {"units": list(units), "settings": manifest["settings"], "seed": seed, "budget": None, "study": study}
    write_json(folder / "params.json", {"run": run, "kind": "explain", "lane": "interactive", "created": time.time(), "params": params})
    write_json(folder / "manifest.json", manifest)
    return [outcome.identity for outcome in outcomes]


def chat_setting(**changes: Any) -> Setting:
    """A setting that asks a language model for both halves."""
    made = Setting("chat", ExplainerChoice("token-activation", ENDPOINT), SimulatorChoice("chat", ENDPOINT))
    return replace(made, **changes)


def _outcome(
    workspace: Workspace,
    run: str,
    place: tuple[int, int, int],
    unit: UnitName,
    setting: Setting,
    quality: Quality,
    split: Split,
    controls: Sequence[Role],
    author: str,
    text: str,
    failed: str,
    seed: int,
) -> Outcome:
    view = load_unit(workspace, unit)
    vocab = load_vocab(workspace, unit.subject)
    splits = split_records(view.bands["top"], view.bands["random"])
    examples = [example(record, vocab) for record in splits.of(split)]
    rng = np.random.default_rng([seed, *place, unit.index, unit.site.layer])
    words = Pattern({(int(examples[0].text.ids[0]),): 1.0}, {"word": 1.0}, 0.0) if setting.explainer.name == "pattern" else None
    explanation = Explanation(unit, "" if failed else text, setting.explainer.name, author, words, {"prompt": 1, "author": author})
    identity = ".".join(map(str, (run, *place)))
    common: dict[str, Any] = {
        "identity": identity,
        "index": view.index.run,
        "setting": setting.label,
        "step": place[2],
        "explanation": explanation,
        "train": [record.context for record in splits.train],
        "seconds": 0.5,
        "created": 1.75e9 + place[0] + place[2] / 10,
    }
    if failed:
        return Outcome(**common, failed=failed)
    scores: list[Scored] = []
    simulations: list[Simulated] = []
    how_good: dict[Role, Quality] = {
        "simulated": quality,
        "lookup": replace(quality, noise=2 * quality.noise + 0.5),
        "shuffled": Quality(noise=50.0),
        "paraphrase": quality,
    }
    roles: tuple[Role, ...] = ("simulated", *controls)
    for role in roles:
        made = [_simulate(one, how_good[role], rng) for one in examples]
        simulations += [Simulated(role, split, one, simulation) for one, simulation in zip(examples, made, strict=True)]
        for kind in setting.kinds:
            scores.append(_scored(setting, role, kind, split, examples, made))
    return Outcome(**common, scores=scores, simulations=simulations)


def _scored(setting: Setting, role: Role, kind: Kind, split: Split, examples: Sequence[Example], made: Sequence[Simulation]) -> Scored:
    chosen = [examples.index(one) for one in of_kind(examples, kind)]
    found = score(kind, [examples[at].activations for at in chosen], [made[at].values for at in chosen])
    said = {"shuffled": "Fires on another word.", "paraphrase": "Is active on that word."}.get(role, "")
    of = "tiny/mlp.0/neurons/1" if role == "shuffled" else ""
    name = "lookup" if role == "lookup" else setting.simulator.name
    contexts = [examples[at].context for at in chosen]
    return Scored(role, split, name, setting.simulator.method, found, contexts, said, of, {"simulator": name})


def _simulate(one: Example, quality: Quality, rng: np.random.Generator) -> Simulation:
    """A made-up answer in tenths of the record's largest activation."""
    if rng.random() < quality.failing:
        return Simulation.failure(one.text, "the answer had the wrong length")
    top = float(np.abs(one.activations).max()) or 1.0
    values = np.zeros(len(one.text)) if quality.flat else 10 * np.maximum(one.activations, 0) / top
    if not quality.flat:
        values = np.clip(values + rng.normal(0, quality.noise * max(values.std(), 0.1), len(values)), 0, 10)
    probabilities = None
    if quality.distributions:
        distances = (np.arange(11)[None, :] - values[:, None]) ** 2
        weights = np.exp(-distances / 2)
        probabilities = weights / weights.sum(axis=1, keepdims=True)
    return Simulation(values, probabilities=probabilities)


def damage(path: Path, how: str) -> None:
    """Harm a file: `truncated`, `missing`, or `garbled` at its right size."""
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-50])
    else:
        path.write_bytes(b"\0" * path.stat().st_size)
