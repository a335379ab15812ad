"""The commands that look after files know runs of explaining: doctor names a damaged one, resume mends it, rebuild counts them."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from core.autointerp.puzzles import built_in
from core.autointerp.request import Setting
from core.autointerp.scoring import Kind
from core.autointerp.splits import Split
from core.autointerp.study_tables import by_setting, record
from core.commands.explaining import explanation_document
from core.commands.study_output import study_result
from core.runs.locks import lane_lock
from core.runs.registry import Registry
from core.store import explanation_queries
from core.store.explained_ingest import places
from core.store.explanation_view import load_explanation
from core.workspace import Workspace
from tests.synthetic import write_synthetic_index
from tests.synthetic_explanations import Quality, write_synthetic_explanations
from tests.unit.test_cli import Capture, _call, _refused, _strict
from tests.unit.test_store_cache import opened

RUN = "explain-test"


@pytest.fixture
def explained(workspace: Workspace) -> Workspace:
    write_synthetic_index(workspace, n_layers=2, width=8)
    write_synthetic_explanations(workspace, run=RUN)
    write_synthetic_explanations(workspace, run="explain-well")
    Registry(workspace).restore()
    return workspace


def part(workspace: Workspace) -> Path:
    return workspace.runs / RUN / "parts" / "000000" / "scores.parquet"


def test_doctor_names_a_damaged_part_and_what_mends_it(explained: Workspace, capsys: Capture) -> None:
    def checks() -> tuple[int, dict[str, Any]]:
        status, out, _ = _call(explained, capsys, "doctor", "--json")
        return status, {check["name"]: check for check in _strict(out)["checks"]}

    status, found = checks()
    assert (status, found["explanations"]["detail"]) == (0, "2 runs with all their files")
    whole = part(explained).read_bytes()
    for content, said in ((whole[:-1], "is damaged"), (None, "is missing")):
        part(explained).unlink() if content is None else part(explained).write_bytes(content)
        status, found = checks()
        assert status == 1
        sentence = f"runs/{RUN}/parts/000000/scores.parquet {said}: make it again with python -m core resume {RUN}."
        assert found[f"explanations {RUN}"]["detail"] == sentence
        assert found["explanations"]["detail"] == "1 run with all their files"
    (explained.runs / RUN / "manifest.json").write_text("{", "utf8")
    assert [name for name, check in checks()[1].items() if not check["ok"] and RUN in name] == [f"index {RUN}"], "named once"


def test_a_done_run_is_resumed_only_when_a_part_is_damaged(explained: Workspace, capsys: Capture) -> None:
    assert "nothing to resume" in _refused(explained, capsys, "resume", RUN, "--detach")
    part(explained).write_bytes(b"0" * part(explained).stat().st_size)
    with lane_lock(explained, "interactive") as lock:  # the lane is busy: nothing starts
        assert lock.acquire()
        status, out, _ = _call(explained, capsys, "resume", RUN, "--detach", "--json")
    assert (status, _strict(out)["state"]) == (0, "queued")


def test_rebuild_tells_what_it_found(explained: Workspace, capsys: Capture) -> None:
    assert "rebuilt the cache from 1 index and 2 runs of explaining" in _call(explained, capsys, "rebuild")[1]
    part(explained).unlink()
    status, out, _ = _call(explained, capsys, "rebuild", "--json")
    assert status == 0
    (notice,) = _strict(out)["notices"]
    assert notice.endswith(f"make it again with python -m core resume {RUN}.")
    assert _strict(out)["explained"] == [RUN, "explain-well"]


def test_the_command_line_and_the_cache_agree_on_the_headline_of_revisions_and_of_several_kinds(explained: Workspace) -> None:
    """As `revise --kind random-only --kind top-and-random` leaves it: every step is scored on validation and on test, by both kinds."""
    both: tuple[Kind, ...] = ("random-only", "top-and-random")
    splits: tuple[Split, ...] = ("validation", "test")
    found = {
        split: write_synthetic_explanations(explained, run=f"explain-{split}", split=split, settings=[Setting(kinds=both)], steps=2)
        for split in splits
    }
    with opened(explained) as cache:
        cache.ingest()
        with cache.cursor() as cursor:
            cursor.execute(
                "INSERT INTO scores BY NAME SELECT * REPLACE (replace(explanation, 'test', 'validation') AS explanation) "
                "FROM scores WHERE run = 'explain-test'"
            )
        kept = explanation_queries.study(cache, "explain-validation").set_index("explanation")
    for identity, other in zip(found["validation"], found["test"], strict=True):
        view = load_explanation(explained, identity)
        whole = replace(view, scores=(*view.scores, *load_explanation(explained, other).scores))
        document = explanation_document(whole)
        assert (document["score"]["kind"], document["score"]["split"]) == ("top-and-random", "test")
        assert document["score"]["rho"] == kept.loc[identity, "rho"]
        assert document["controls"]["lookup"]["rho"] == kept.loc[identity, "lookup_rho"]
        headline = whole.headline("validation")
        assert headline is not None
        assert (headline.split, headline.score.kind) == ("validation", "top-and-random")


def test_a_study_prints_the_statistics_of_its_page(explained: Workspace) -> None:
    """Paired, of revisions the last step, with intervals and differences; a unit without a number under one setting is left out of all."""
    units = [f"tiny/mlp.1/neurons/{unit}" for unit in range(6)]
    settings = [Setting("one"), Setting("two")]
    quality = {units[0]: Quality(flat=True)}
    found = write_synthetic_explanations(explained, run="explain-arms", units=units, settings=settings, quality=quality, steps=2)
    records = [record(load_explanation(explained, identity), *places("explain-arms", identity)) for identity in found]
    document, lines = study_result("revision", records)
    with opened(explained) as cache:
        cache.ingest()
        page = by_setting(explanation_queries.study(cache, "explain-arms").to_dict("records"))
    assert document == asdict(page)
    assert (document["shared"], len(document["lines"]), document["against"]) == (5, 2, "one")
    one, two = page.lines
    assert two.difference is not None
    assert lines[0].split() == "SETTING MEAN RHO INTERVAL DIFF INTERVAL LOOKUP SHUFFLED UNITS UNDEFINED FAILED".split()  # noqa: SIM905
    assert f"{two.score.low:.3f} to {two.score.high:.3f}" in lines[2]
    assert f"{two.difference.low:.3f} to {two.difference.high:.3f}" in lines[2]
    assert lines[1].split()[1] == f"{one.score.value:.3f}"
    across, lines = study_result("interpretability", records)
    assert [(line["basis"], line["site"], line["units"]) for line in across["lines"]] == [("neurons", "mlp.1", len(records))]
    assert lines[1].startswith("mlp.1 neurons")


UNIT = "tiny/mlp.1/neurons/0"
ASKING = ("explain", UNIT, "--explainer", "token-activation", "--simulator", "chat", "--model", "m", "--endpoint", "http://127.0.0.1:9/v1")


def queued(workspace: Workspace, capsys: Capture, *arguments: str) -> tuple[dict[str, Any], str]:
    """What a command queues while the lane is busy, so that nothing starts: its parameters, and what was said before."""
    with lane_lock(workspace, "interactive") as lock:
        assert lock.acquire()
        status, out, said = _call(workspace, capsys, *arguments, "--detach", "--json")
    assert status == 0
    return Registry(workspace).get(_strict(out)["id"]).params, said


def test_a_limit_that_cannot_be_kept_or_will_not_last_is_said_before_the_run_is_queued(explained: Workspace, capsys: Capture) -> None:
    before = len(Registry(explained).list())
    assert "needs the model's prices" in _refused(explained, capsys, *ASKING, "--max-money", "1")
    assert len(Registry(explained).list()) == before
    _, said = queued(explained, capsys, *ASKING, "--max-calls", "2")
    assert "The limit of calls will probably stop this run" in said
    _, said = queued(explained, capsys, *ASKING, "--max-calls", "9999")
    assert "will probably stop" not in said


def test_a_unit_is_not_scored_without_a_sentence_about_it(explained: Workspace, capsys: Capture) -> None:
    for command in ("score", "simulate"):
        assert "add --say SENTENCE" in _refused(explained, capsys, command, "tiny/mlp.1/neurons/3")


def test_a_named_model_restates_what_the_pattern_explainer_wrote(explained: Workspace, capsys: Capture) -> None:
    asked = ("explain", UNIT, "--controls", "lookup,paraphrase")
    assert "paraphrase control needs a language model" in _refused(explained, capsys, *asked)
    params, said = queued(explained, capsys, *asked, "--model", "m", "--endpoint", "http://127.0.0.1:9/v1")
    (setting,) = params["settings"]
    assert (setting["explainer"]["name"], setting["paraphraser"]["model"]) == ("pattern", "m")
    assert "1 call, about" in said, "its price is told"


def test_the_number_of_alternatives_is_an_option(explained: Workspace, capsys: Capture) -> None:
    params, _ = queued(explained, capsys, *ASKING, "--logprobs", "5")
    assert params["settings"][0]["simulator"]["logprobs"] == 5
    assert "choose 1 to 20" in _refused(explained, capsys, *ASKING, "--logprobs", "21")


def test_a_token_table_is_not_looked_for_where_there_is_none(explained: Workspace, capsys: Capture) -> None:
    assert "choose it, or another simulator" in _refused(explained, capsys, *ASKING, "--simulator", "lookup")
    assert "choose it, or another simulator" in _refused(explained, capsys, "score", UNIT, "--say", "*so*", "--simulator", "lookup")
    params, _ = queued(explained, capsys, "explain", UNIT, "--simulator", "lookup")
    assert params["settings"][0]["simulator"]["name"] == "lookup"


def test_records_of_each_kind_and_the_temperature_are_options(explained: Workspace, capsys: Capture) -> None:
    params, _ = queued(explained, capsys, *ASKING, "--each", "2", "--temperature", "0.5", "--simulator-model", "other")
    (setting,) = params["settings"]
    assert (setting["each"], setting["explainer"]["temperature"], setting["simulator"]["endpoint"]["model"]) == (2, 0.5, "other")
    assert "is not a temperature" in _refused(explained, capsys, *ASKING, "--temperature", "3")


def test_puzzles_are_checked_from_the_command_line(explained: Workspace, capsys: Capture, tmp_path: Path) -> None:
    assert "needs a language model" in _refused(explained, capsys, "puzzles")
    assert "no token table" in _refused(explained, capsys, "puzzles", "--simulator", "lookup")
    two = built_in()[:2]
    starred = replace(two[0], explanation="*all*" if "all" in two[0].explanation else f"*{two[0].texts[0][0][0].strip()}*")
    file = tmp_path / "own.json"
    file.write_text(json.dumps({"puzzles": [starred.to_json(), two[1].to_json()]}), "utf8")
    status, out, _ = _call(explained, capsys, "puzzles", "--simulator", "sentence", "--file", str(file), "--json")
    found = _strict(out)
    assert status == 1, "not all are passed"
    assert [one["puzzle"] for one in found["results"]] == [two[0].name, two[1].name]
    assert "names no *word*" in found["results"][1]["reason"]
    params, said = queued(explained, capsys, "puzzles", "--model", "m", "--endpoint", "http://127.0.0.1:9/v1", "--max-calls", "3")
    assert (params["simulator"]["name"], params["budget"]) == ("chat", {"calls": 3.0})
    assert "The limit of calls will probably stop" in said
