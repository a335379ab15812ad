"""The run that steers: each token on disk as it comes, stopping and going on, what is refused, and the command."""

import json
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from core.causal.steer_request import SteerRequest
from core.causal.steer_run import run_steer
from core.cli import main
from core.errors import AtlasError
from core.runs import lanes
from core.runs.progress import Cancelled
from core.runs.registry import Registry
from core.runs.worker import KINDS, work
from core.store.steered import changed, load_steered
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.subject.subject import Subject
from core.units import UnitName
from core.workspace import Workspace
from tests.planted import QuietProgress
from tests.steerable import steerable

UNIT, OTHER = "tiny/mlp.1/neurons/3", "tiny/mlp.0/neurons/11"
TEXT = "The old ships of the town"
PARAMS: dict[str, Any] = {"units": [UNIT, OTHER], "strengths": [6.0, -4.0], "text": TEXT, "tokens": 12, "temperature": 0.8, "seed": 5}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Subject]:
    workspace, subject = steerable(tmp_path_factory.mktemp("steer"))
    return workspace, subject


@pytest.fixture
def here(world: tuple[Workspace, Subject], monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace, where the model process is this one."""

    def ensure(workspace: Workspace, **_: Any) -> bool:
        work(workspace, KINDS, "model")
        return True

    monkeypatch.setattr(lanes, "ensure_workers", ensure)
    return world[0]


class StopAfter(QuietProgress):
    """Somebody asks to stop when `tokens` are written."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        if done >= self.tokens:
            raise Cancelled


def folder(workspace: Workspace, name: str) -> Path:
    made = workspace.runs / name
    made.mkdir()
    return made


def test_a_run_leaves_both_texts_with_the_next_tokens_of_each_step(world: tuple[Workspace, Subject]) -> None:
    workspace, subject = world
    run_steer(workspace, folder(workspace, "steer-whole"), PARAMS, QuietProgress())
    manifest = json.loads((workspace.runs / "steer-whole" / "manifest.json").read_text("utf8"))
    assert not (workspace.runs / "steer-whole" / "stream.jsonl").exists()
    assert (manifest["kind"], manifest["state"], len(manifest["steps"])) == ("steer", "complete", 12)
    found = load_steered(workspace, "steer-whole")
    assert found is not None
    assert found.complete
    assert list(found.text) == subject.encode([TEXT])[0]
    for told, name, strength in zip(found.units, (UNIT, OTHER), (6.0, -4.0), strict=True):
        largest = load_unit(workspace, UnitName.parse(name)).stats["max"]
        assert (told["unit"], told["maximum"], told["amount"]) == (name, largest, strength * largest)
    assert manifest["original"] == list(found.original.tokens)
    pairs = list(zip_longest(found.original.tokens, found.steered.tokens))  # a side may have ended its text
    assert len(pairs) == 12
    assert manifest["differ"] == found.differ == next(place for place, (one, other) in enumerate(pairs) if one != other)
    assert found.original.tokens[: found.differ] == found.steered.tokens[: found.differ]
    for side in ("original", "steered"):
        text = found.side(side)
        assert len(text.tokens) == len(text.log_p) == len(text.top)
        for chances in text.top:
            mine = [getattr(chance, side) for chance in chances]
            assert len(mine) == 10
            assert mine == sorted(mine, reverse=True)
            assert sum(mine) <= 1 + 1e-9


def test_what_was_written_before_a_stop_is_kept_and_the_rest_is_what_it_would_have_been(world: tuple[Workspace, Subject]) -> None:
    workspace, _ = world
    if load_steered(workspace, "steer-whole") is None:
        run_steer(workspace, folder(workspace, "steer-whole"), PARAMS, QuietProgress())
    whole = load_steered(workspace, "steer-whole")
    run = folder(workspace, "steer-stopped")
    with pytest.raises(Cancelled):
        run_steer(workspace, run, PARAMS, StopAfter(5))
    stopped = load_steered(workspace, "steer-stopped")
    assert whole is not None
    assert stopped is not None
    assert not stopped.complete
    assert stopped.original.tokens == whole.original.tokens[:5]
    with (run / "stream.jsonl").open("a", encoding="utf8") as file:
        file.write('{"original":{"tok')  # a kill cut the line short
    again = load_steered(workspace, "steer-stopped")
    assert again is not None
    assert again.steps == 5
    run_steer(workspace, run, PARAMS, QuietProgress())
    done = load_steered(workspace, "steer-stopped")
    assert done is not None
    assert done.complete
    assert [done.side(side).tokens for side in ("original", "steered")] == [whole.side(side).tokens for side in ("original", "steered")]


def test_a_run_that_was_killed_when_all_was_written_writes_nothing_again(
    world: tuple[Workspace, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, _ = world
    run = folder(workspace, "steer-ended")
    run_steer(workspace, run, PARAMS, QuietProgress())
    before = json.loads((run / "manifest.json").read_text("utf8"))
    monkeypatch.setattr("core.causal.steer._next", None)
    run_steer(workspace, run, PARAMS, QuietProgress())
    assert json.loads((run / "manifest.json").read_text("utf8")) == before
    assert not (run / "stream.jsonl").exists()


def test_a_stream_about_something_else_is_begun_again(world: tuple[Workspace, Subject]) -> None:
    workspace, _ = world
    run = folder(workspace, "steer-other")
    with pytest.raises(Cancelled):
        run_steer(workspace, run, PARAMS, StopAfter(3))
    with pytest.raises(Cancelled):
        run_steer(workspace, run, {**PARAMS, "seed": 6, "text": "Another text"}, StopAfter(1))
    found = load_steered(workspace, "steer-other")
    assert found is not None
    assert (found.request["text"], found.steps) == ("Another text", 1)


def test_a_run_that_is_cancelled_in_the_registry_stops_and_says_so(here: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry(here)
    run = registry.submit("steer", {**PARAMS, "seed": 77, "tokens": 100}, lane="model")
    update = Registry.update

    def cancelled_at_three(self: Registry, name: str, *, done: int, **more: Any) -> bool:
        if done >= 3:
            self.request_cancel(name)
        return update(self, name, done=done, **more)

    monkeypatch.setattr(Registry, "update", cancelled_at_three)
    monkeypatch.setattr("core.runs.progress.WRITE_SECONDS", 0.0)
    lanes.ensure_workers(here)
    assert registry.get(run.id).state == "cancelled"
    found = load_steered(here, run.id)
    assert found is not None
    assert (found.complete, found.steps) == (False, 3)


def test_tokens_without_a_counterpart_are_changed() -> None:
    assert changed([1, 2, 3, 4], [1, 9, 3, 4, 5]) == ({1}, {1, 4})
    assert changed([1, 2], [1, 2]) == (frozenset(), frozenset())
    assert changed([], [7]) == (frozenset(), {0})


WRONG: dict[str, dict[str, Any]] = {
    "A strength must be a number from -1000 to 1000, not nan.": {"strengths": [float("nan"), 1.0]},
    "A strength must be a number from -1000 to 1000, not 1000000000.0.": {"strengths": [1e9, 1.0]},
    "A strength must be a number from -1000 to 1000, not True.": {"strengths": [True, 1.0]},
    "Each unit needs one strength: give as many strengths as units.": {"strengths": [1.0]},
    "The text is empty: write or paste a few words.": {"text": "  \n"},
    "The text holds bytes that are not UTF-8: save or paste it as UTF-8.": {"text": "a\udcff"},
    "Units of other and tiny cannot steer together: name units of one model.": {"units": [UNIT, "other/mlp.0/neurons/1"]},
    "A unit was named twice: name each once.": {"units": [UNIT, UNIT]},
    "No unit was named: write one as subject/site/basis/index.": {"units": []},
    "The number of tokens to write must be a whole number from 1 to 256, not 257.": {"tokens": 257},
    "The number of tokens to write must be a whole number from 1 to 256, not 0.": {"tokens": 0},
    "The temperature must be a number from 0 to 5, not 5.1.": {"temperature": 5.1},
    "The temperature must be 0, which is greedy, or at least 0.01.": {"temperature": 1e-9},
    "The share of probability (top-p) must be above 0.": {"top_p": 0.0},
    "The seed must be a whole number from 0 to 999,999,999, not -1.": {"seed": -1},
    "“sub” is not a way to steer: use add or clamp.": {"mode": "sub"},
    "“nowhere” is not where to steer: use all or generated.": {"where": "nowhere"},
    "A run of steering has no parameter “power”: leave it out.": {"power": 1},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_a_request_that_makes_no_sense_is_one_sentence(sentence: str) -> None:
    with pytest.raises(AtlasError) as told:
        SteerRequest.from_params({**PARAMS, **WRONG[sentence]})
    assert str(told.value) == sentence


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"units": ["tiny/mlp.1/neurons/48"], "strengths": [1.0]}, "has units 0 to 47"),
        ({"units": ["other/mlp.1/neurons/3"], "strengths": [1.0]}, "“other” is not indexed here"),
        ({"text": " the" * 400}, "at most 127 can be read at once: shorten it."),
        ({"text": " the" * 120}, "tiny reads at most 128 tokens, and the text has 120: shorten it, or write at most"),
    ],
)
def test_what_only_the_workspace_or_the_model_knows_is_one_sentence_too(
    world: tuple[Workspace, Subject], tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AtlasError, match=sentence):
        run_steer(world[0], tmp_path, {**PARAMS, **change}, QuietProgress())


def test_equal_requests_give_equal_parameters_and_come_back_whole() -> None:
    request = SteerRequest.from_params(PARAMS)
    assert SteerRequest.from_params(json.loads(json.dumps(request.to_params()))) == request
    assert SteerRequest.from_params({**PARAMS, "strengths": [6, -4]}).to_params() == request.to_params()


Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(here: Workspace, capsys: pytest.CaptureFixture[str]) -> Called:
    def called(*arguments: str) -> tuple[int, str, str]:
        status = main(["steer", *arguments, "--workspace", str(here.path)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return called


def test_the_command_prints_both_texts_and_where_they_begin_to_differ(here: Workspace, call: Called) -> None:
    status, out, _ = call(f"{UNIT}=6", OTHER, "--strength", "-4", "--text", TEXT, "--tokens", "12", "--json")
    assert status == 0
    told = json.loads(out)
    found = load_steered(here, told["id"])
    assert found is not None
    vocab = load_vocab(here, "tiny")
    for side in ("original", "steered"):
        assert told[side]["text"] == vocab.decode(found.side(side).tokens)
        assert [token["token"] for token in told[side]["tokens"]] == list(found.side(side).tokens)
        assert [token["changed"] for token in told[side]["tokens"]] == [place in found.side(side).changed for place in range(12)]
        assert len(told[side]["tokens"][0]["next"]) == 10
    assert told["differ"] == found.differ
    status, out, _ = call(f"{UNIT}=6", f"{OTHER}=-4", "--text", TEXT, "--tokens", "12")
    assert out.startswith("original: ")
    assert f"they differ from token {found.differ + 1} on" in out  # type: ignore[operator]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((f"{UNIT}=nan", "--text", "a"), "A strength must be a number from -1000 to 1000, not nan."),
        ((f"{UNIT}=1e9", "--text", "a"), "A strength must be a number from -1000 to 1000, not 1000000000.0."),
        ((f"{UNIT}=much", "--text", "a"), "A strength must be a number, not much."),
        ((UNIT, "--text", "a"), "has no strength: write UNIT=STRENGTH, or give one for all with --strength."),
        ((f"{UNIT}=1", "--text", " "), "The text is empty: write or paste a few words."),
        ((f"{UNIT}=1", "--text", "a", "--tokens", "257"), "must be a whole number from 1 to 256, not 257."),
        ((f"{UNIT}=1", "--text", "a", "--tokens", "many"), "The number of tokens to write must be a whole number, not many."),
        (("other/mlp.1/neurons/3=1", "--text", "a"), "“other” is not indexed here"),
        (("3=1", "--text", "a"), "“3” is not a unit"),
        ((f"{UNIT}=1", "--text", "the " * 300), "at most 127 can be read at once: shorten it."),
    ],
)
def test_the_command_refuses_in_one_sentence(call: Called, arguments: tuple[str, ...], sentence: str) -> None:
    status, out, err = call(*arguments)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert sentence in err
    assert "Traceback" not in err
