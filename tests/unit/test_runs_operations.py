"""The operations on a loaded subject, held against slow obvious ones on a tiny random model, and a real round trip."""

import os
import signal
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from core.corpus.build import build_slice
from core.corpus.slice import Slice
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.runs import client
from core.runs.frames import read_address
from core.runs.operations import STRONGEST, ModelOperations
from core.subject import loaded
from core.subject.info import subject_folder
from core.subject.load import load_subject
from core.subject.subject import Subject
from core.subject.tokenizer import SubjectTokenizer
from core.units import Site
from core.vocab import Vocab
from core.workspace import Workspace, write_json
from tests.models import make_tiny_model

SITES = [Site("mlp", 0), Site("mlp", 1), Site("resid", 1)]
TEXT = "The old doctor of the garden wrote a letter."
RUN = "index-test"
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


class World:
    """A workspace with a tiny subject, a slice of text with a BOS, and an index run that has only percentiles."""

    def __init__(self, folder: Path) -> None:
        make_tiny_model(folder / "tiny")
        (folder / "text.txt").write_text(
            "\n\n".join(f"The {n} old ships of the town sailed on the wide river. " * 5 for n in range(12)), "utf8"
        )
        self.workspace = Workspace.open(folder / "ws")
        self.subject: Subject = load_subject(self.workspace, str(folder / "tiny"))
        vocab = Vocab.load(subject_folder(self.workspace, "tiny") / "vocab.parquet")
        spec = CorpusSpec(source=str(folder / "text.txt"), contexts=24, length=16, bos=True)
        self.slice: Slice = build_slice(self.workspace, spec, SubjectTokenizer(self.subject, vocab))
        run = self.workspace.runs / RUN
        files: dict[str, Any] = {}
        self.steps: dict[Site, npt.NDArray[np.float32]] = {}
        for site in SITES:
            values = np.concatenate([self.activations(self.context(rank), site)[1:] for rank in range(len(self.slice))])
            self.steps[site] = np.quantile(values, list(SHARES.values()), axis=0).astype(np.float32)
            self.steps[site][:, 7] = np.nan if site == SITES[1] else self.steps[site][:, 7]
            path = run / str(site) / "units.parquet"
            path.parent.mkdir(parents=True)
            columns = dict(zip(SHARES, self.steps[site], strict=True))
            pq.write_table(pa.table({"unit": np.arange(values.shape[1], dtype=np.int32), **columns}), path)
            files[str(site)] = {"units": {"path": f"{site}/units.parquet", "bytes": path.stat().st_size, "sha256": ""}}
        self.manifest: dict[str, Any] = {
            "schema": 1,
            "kind": "index",
            "run": RUN,
            "state": "complete",
            "generation": 1,
            "basis": "neurons",
            "bands": {},
            "effects": {},
            "contexts_done": len(self.slice),
            "contexts_total": len(self.slice),
            "tokens_done": 1,
            "subject": self.subject.info.to_json(),
            "slice": self.slice.info,
            "sites": [str(site) for site in SITES],
            "signed": {str(site): True for site in SITES},
            "files": files,
            "provenance": {"dtype": "float32", "device": "cpu"},
        }
        write_json(run / "manifest.json", self.manifest)
        self.operations = ModelOperations(self.workspace)
        self.said: list[str] = []

    def context(self, rank: int) -> list[int]:
        return self.slice.tokens[rank, : self.slice.lengths[rank]].tolist()

    def activations(self, tokens: list[int], site: Site) -> npt.NDArray[np.float32]:
        """What the site holds on these tokens, [tokens, width], one context by itself."""
        return self.subject.capture(torch.tensor([tokens]), [site])[site][0].numpy()

    def ask(self, op: str, **args: Any) -> dict[str, Any]:
        return self.operations(op, args, self.said.append)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_try_text_counts_and_ranks_what_a_slow_loop_does(world: World) -> None:
    answer = world.ask("try_text", subject="tiny", text=TEXT)
    tokens = world.subject.encode([TEXT])[0]
    assert (answer["run"], answer["tokens"], answer["bos"]) == (RUN, tokens, True)
    assert answer["sites"] == ["mlp.0", "mlp.1", "resid.1"]
    with_bos = [world.subject.info.bos_token_id or 0, *tokens]
    for position in range(len(tokens)):
        found: list[tuple[float, str, int, float, str]] = []
        for site, fires in zip(SITES, answer["fires"], strict=True):
            values, steps = world.activations(with_bos, site)[position + 1], world.steps[site]
            assert fires[position] == sum(bool(value > limit) for value, limit in zip(values, steps[3], strict=True))
            for unit, value in enumerate(values):
                if value > 0 and steps[4, unit] > 0:
                    band = ("low", *SHARES)[sum(bool(value > step) for step in steps[:, unit])]
                    found.append((float(value / steps[4, unit]), str(site), unit, float(value), band))
        found.sort(key=lambda item: -item[0])
        shown = answer["strongest"][position]
        assert len(shown) == min(STRONGEST, len(found))
        assert [item["ratio_to_max"] for item in shown] == pytest.approx([item[0] for item in found[: len(shown)]], rel=1e-5)
        expected = {(site, unit): (value, band) for _, site, unit, value, band in found}
        for item in shown:
            value, band = expected[item["site"], item["unit"]]
            assert item["value"] == pytest.approx(value, rel=1e-5)
            assert item["percentile_band"] == band
            assert (item["site"], item["unit"]) != ("mlp.1", 7)  # its percentiles are undefined


def test_one_unit_on_a_text_is_that_unit_s_column(world: World) -> None:
    answer = world.ask("unit_on_text", unit="tiny/resid.1/neurons/5", text=TEXT)
    tokens = [world.subject.info.bos_token_id or 0, *world.subject.encode([TEXT])[0]]
    assert answer["activations"] == pytest.approx(world.activations(tokens, SITES[2])[1:, 5].tolist(), rel=1e-5)
    assert len(answer["activations"]) == len(answer["tokens"])
    assert answer["thresholds"] == pytest.approx(dict(zip(SHARES, world.steps[SITES[2]][:, 5].tolist(), strict=True)))


def test_a_record_read_again_is_the_record(world: World) -> None:
    answer = world.ask("recompute", unit="tiny/mlp.0/neurons/3", run=RUN, context=4)
    tokens = world.context(4)
    assert answer["tokens"] == tokens
    assert answer["activations"][0] is None
    assert answer["activations"][1:] == pytest.approx(world.activations(tokens, SITES[0])[1:, 3].tolist(), rel=1e-6)


def test_the_model_is_loaded_once_and_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "_kept", OrderedDict())
    operations, said = ModelOperations(world.workspace), list[str]()
    assert operations("warm", {"subject": "tiny"}, said.append) == {"subject": "tiny", "device": "cpu", "dtype": "float32"}
    assert said == ["loading the model"]
    operations("try_text", {"subject": "tiny", "text": "a"}, said.append)
    assert said == ["loading the model", "reading the text"]


@pytest.mark.parametrize(
    ("op", "args", "sentence"),
    [
        ("try_text", {"subject": "tiny", "text": ""}, "The text is empty"),
        ("try_text", {"subject": "tiny", "text": "the " * 300}, "The text has 302 tokens and at most 127 can be read at once"),
        ("try_text", {"subject": "tiny", "text": TEXT, "max_tokens": 3}, "at most 3 can be read"),
        ("try_text", {"subject": "tiny", "text": TEXT, "max_tokens": 0}, "whole number from 1"),
        ("try_text", {"subject": "tiny"}, "The question needs “text”"),
        ("try_text", {"subject": "none", "text": TEXT}, "no model called “none”"),
        ("try_text", {"subject": "tiny", "text": TEXT, "run": "index-0"}, "The run “index-0” has no index here"),
        ("try_text", {"subject": "../x", "text": TEXT}, "is not the name of a subject"),
        ("unit_on_text", {"unit": "tiny/mlp.0/neurons/48", "text": TEXT}, "mlp.0 has units 0 to 47"),
        ("unit_on_text", {"unit": "tiny/mlp.9/neurons/0", "text": TEXT}, "Layer 9 is out of range"),
        ("unit_on_text", {"unit": "tiny/attn.0/neurons/0", "text": TEXT}, "attn.0 of tiny is not indexed"),
        ("unit_on_text", {"unit": "tiny/mlp.0/sae/0", "text": TEXT}, "not indexed in the basis"),
        ("recompute", {"unit": "tiny/mlp.0/neurons/3", "context": 10_000}, "10000 is not a context of this run"),
        ("recompute", {"unit": "tiny/mlp.0/neurons/3", "context": "4"}, "4 is not a context of this run"),
        ("recompute", {"unit": "rubbish", "context": 0}, "is not a unit"),
        ("no_such", {}, "does not know “no_such”"),
    ],
)
def test_a_wrong_question_is_one_sentence(world: World, op: str, args: dict[str, Any], sentence: str) -> None:
    with pytest.raises(AtlasError) as caught:
        world.ask(op, **args)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_hostile_text_is_read_like_any_other(world: World) -> None:
    for text in ("\ud800 lone", "\x00\x1b[31m", "a\u200b\u202e e\u0301", "<|bos|>", "漢字 🙂👩‍👩‍👧"):
        answer = world.ask("try_text", subject="tiny", text=text)
        assert len(answer["strongest"]) == len(answer["tokens"]) == len(answer["fires"][0]) > 0


def test_other_weights_than_the_index_read_are_refused(world: World) -> None:
    path = world.workspace.runs / "index-other" / "manifest.json"
    path.parent.mkdir()
    source = world.workspace.runs / RUN
    changed = {**world.manifest, "run": "index-other", "subject": {**world.manifest["subject"], "weights_hash": "0" * 64}, "tokens_done": 0}
    for site in SITES:
        (path.parent / str(site)).mkdir()
        (path.parent / str(site) / "units.parquet").write_bytes((source / str(site) / "units.parquet").read_bytes())
    write_json(path, changed)
    with pytest.raises(AtlasError, match="has other weights than these numbers were made with: index it again"):
        world.ask("try_text", subject="tiny", text=TEXT, run="index-other")


def test_what_a_run_publishes_later_is_seen(world: World, tmp_path: Path) -> None:
    before = world.ask("try_text", subject="tiny", text=TEXT, run=RUN)
    run = world.workspace.runs / RUN
    only = {**world.manifest, "generation": 2, "sites": ["mlp.1"], "files": {"mlp.1": world.manifest["files"]["mlp.1"]}}
    try:
        write_json(run / "manifest.json", only)
        assert world.ask("try_text", subject="tiny", text=TEXT, run=RUN)["sites"] == ["mlp.1"]
        write_json(run / "manifest.json", {**only, "generation": 3, "files": {}})
        with pytest.raises(AtlasError, match="has no results yet"):
            world.ask("try_text", subject="tiny", text=TEXT, run=RUN)
    finally:
        write_json(run / "manifest.json", world.manifest)
    assert world.ask("try_text", subject="tiny", text=TEXT, run=RUN) == before


@pytest.fixture
def process(world: World) -> Iterator[Workspace]:
    yield world.workspace
    address = read_address(world.workspace)
    if address is not None and address.usable:
        os.kill(address.pid, signal.SIGKILL)


def test_a_real_process_answers_as_the_operations_do(world: World, process: Workspace) -> None:
    said: list[str] = []
    answer = client.call(process, "try_text", 120.0, on_progress=said.append, subject="tiny", run=RUN, text=TEXT)
    here = world.ask("try_text", subject="tiny", run=RUN, text=TEXT)
    assert answer["tokens"] == here["tokens"]
    assert answer["fires"] == here["fires"]
    assert said[:2] == ["starting the model process", "starting torch"]
    assert "loading the model" in said
    with pytest.raises(AtlasError, match="The text is empty"):
        client.call(process, "try_text", 30.0, subject="tiny", run=RUN, text="")
