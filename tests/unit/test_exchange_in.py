"""Files of OpenAI's and Neuronpedia's programs come in as runs: both dialects, every layout, and our own exports back again."""

import gzip
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from core.cli import main
from core.errors import AtlasError
from core.findings.bundle.exporting import export_bundle
from core.findings.exchange.neuronpedia import write_neuronpedia
from core.findings.exchange.openai import write_openai
from core.findings.report.page import report_html
from core.store.cache import Cache
from core.store.catalog import indexes, load_index
from core.store.explained import explained_runs
from core.store.explanation_view import ExplanationView, load_explanation
from core.store.texts import load_vocab
from core.store.units import Record, load_unit
from core.subject.info import registered
from core.units import Site, UnitName
from core.workspace import Workspace
from tests import foreign_files as files
from tests.shared_bundle import UNITS, fill, snapshot


def texts(workspace: Workspace, unit: UnitName, records: Sequence[Record]) -> list[list[str]]:
    vocab = load_vocab(workspace, unit.subject)
    return [vocab.pieces(one.tokens[one.first :].tolist()) for one in records]


def said(workspace: Workspace, unit: UnitName) -> list[ExplanationView]:
    found: list[ExplanationView] = []
    for run in explained_runs(workspace):
        for place in range(run.units):
            for setting in range(len(run.settings)):
                try:
                    found.append(load_explanation(workspace, f"{run.run}.{place}.{setting}.0"))
                except AtlasError:
                    continue
    return [one for one in found if one.unit == unit]


@pytest.mark.parametrize("dialect", ["2023", "debugger"])
def test_records_and_scored_explanations_of_openai_come_in(workspace: Workspace, tmp_path: Path, dialect: str) -> None:
    files.write(tmp_path / "in" / "neurons" / "2" / "7.json", files.neuron())
    files.write(tmp_path / "in" / "explanations" / "2" / "7.jsonl", files.explained(dialect=dialect))
    done = files.take(workspace, tmp_path / "in", model="gpt2-xl")
    (unit,) = done.units
    assert str(unit).startswith("gpt2-xl.openai-")
    assert (unit.site, unit.basis, unit.index) == (Site("mlp", 2), "neurons", 7)
    view = load_unit(workspace, unit)
    assert texts(workspace, unit, view.bands["top"]) == [files.TOKENS, ["so", " it"]]
    np.testing.assert_allclose(view.bands["top"][0].activations, [0, 3.5, -0.5, 1, 0], atol=1e-4)
    assert texts(workspace, unit, view.bands["random"]) == [["a", " b", " c"]]
    assert (view.stats["mean"], view.stats["kurtosis"], view.stats["max"]) == (pytest.approx(0.01), 40, 3.5)
    assert all(np.isnan(number) for number in (view.stats["skewness"], view.stats["min"], view.density, *view.quantiles.values()))
    assert view.stats["tokens"] == 0
    assert not view.histogram.counts.size
    assert view.effects is None
    assert not view.bands["q0"]
    assert any("quantile" in remark for remark in done.remarks)
    (explanation,) = said(workspace, unit)
    assert explanation.text == "places that are open"
    best = explanation.headline()
    assert best is not None
    assert (best.score.rho, best.score.r2, best.simulator) == (0.75, 0.5, "scored elsewhere")
    assert np.isnan([best.score.low, best.score.explained, best.score.coverage]).all()
    first, second = explanation.of_role("simulated")
    assert (first.origin, second.origin, first.scale) == ("top", "random", "tenths")
    assert list(first.pieces) == files.TOKENS
    assert first.simulated.tolist() == [0, 8, 0, 3, 0]
    assert first.probabilities is not None
    assert first.probabilities[1].tolist() == pytest.approx([0.2, *[0.0] * 9, 0.8])


def test_quantile_records_with_our_bounds_are_kept(workspace: Workspace, tmp_path: Path) -> None:
    path = files.write(tmp_path / "n.json", files.neuron(quantile_boundaries=[0, 0.5, 0.9, 0.99, 0.999]))
    (unit,) = files.take(workspace, path).units
    assert all(len(load_unit(workspace, unit).bands[band]) == 1 for band in ("q0", "q1", "q2", "q3"))


def test_class_names_and_older_names_are_read(workspace: Workspace, tmp_path: Path) -> None:
    """What PyPI's package writes since 0.0.1, and what the oldest files say."""
    document = files.explained(dialect="debugger")
    document["dataclass_name"] = "NeuronSimulationResults"
    document["scored_explanation_or_baseline_list"] = document.pop("scored_explanations")
    one = document["scored_explanation_or_baseline_list"][0]
    one["explanation_or_baseline"] = one.pop("explanation")
    one["scored_simulation"]["scored_sequence_simulations"][0]["sequence_simulation"]["response"] = {"choices": []}
    (unit,) = files.take(workspace, files.write(tmp_path / "7.jsonl", document)).units
    assert [one.text for one in said(workspace, unit)] == ["places that are open"]
    assert unit.index == 7


def test_neuronpedias_bulk_files_come_in(workspace: Workspace, tmp_path: Path) -> None:
    interval = files.activation(binMin=0.7, binMax=1.4, binContains=0.02, tokens=["ĠÐŁÑĢÐ¸Ð²ÐµÑĤ", "ðŁ", "ĻĤ"], values=[1.0, 0.5, 0.0])
    files.bulk(
        tmp_path / "np", [files.feature(10), files.feature(7)], [files.activation(), interval], [files.explanation(), files.explanation(10)]
    )
    done = files.take(workspace, tmp_path / "np")
    assert [(unit.site, unit.basis, unit.index) for unit in done.units] == [
        (Site("resid", 5), "res-jb", 7),
        (Site("resid", 5), "res-jb", 10),
    ]
    unit = done.units[0]
    view = load_unit(workspace, unit)
    assert texts(workspace, unit, view.bands["top"]) == [["The", " café", " is", " open…", "\n"]]
    vocab = load_vocab(workspace, unit.subject)
    (sampled,) = view.bands["random"]
    assert [vocab.bytes_of(int(token)) for token in sampled.tokens] == [" Привет".encode(), b"\xf0\x9f", b"\x99\x82"]
    assert (view.stats["max"], view.stats["tokens"], view.stats["nonzero"]) == (3.5, 10_000, 100)
    assert view.histogram.counts.tolist() == [9900, 70, 20, 10]
    assert 0.005 < view.density <= 0.01
    assert view.effects is not None
    assert [(one.text, one.logit) for one in view.effects.raised] == [(" café", 1.5)]  # -10000 stands for no number
    assert [(one.name.index, one.cosine) for one in view.effects.similar] == [(12, 0.5)]
    assert np.isnan(view.stats["mean"])
    (explanation,) = said(workspace, unit)
    assert (explanation.text, explanation.author, explanation.explainer) == ("places to drink coffee", "gpt-4o-mini", "oai_token-act-pair")
    assert explanation.headline() is None
    assert any("correlated neurons" in remark for remark in done.remarks)
    assert not load_unit(workspace, done.units[1]).bands["top"]
    write_openai(workspace, [unit], tmp_path / "out")
    written = json.loads(next((tmp_path / "out").rglob("7.json")).read_text("utf8"))
    assert len(written["most_positive_activation_records"]) == 1
    assert written["random_sample"] == []  # what was drawn within intervals is no sample by chance


def test_a_feature_whose_maximum_is_not_said_has_no_density_and_goes_out_again(workspace: Workspace, tmp_path: Path) -> None:
    files.bulk(tmp_path / "np", [files.feature(maxActApprox=None, topkCosSimValues=[None, None])], [files.activation(8)], [])
    unit = files.take(workspace, tmp_path / "np").units[0]
    view = load_unit(workspace, unit)
    assert np.isnan([view.stats["max"], view.density]).all()
    low, high = view.limits
    assert (low, high) == (0, view.histogram.highs[-1])
    write_neuronpedia(workspace, [unit], tmp_path / "out")
    written = json.loads(gzip.decompress(next((tmp_path / "out").rglob("features/*.gz")).read_bytes()))
    assert written["maxActApprox"] is None
    assert (written["freq_hist_data_bar_heights"], len(written["freq_hist_data_bar_values"])) == ([70, 20, 10], 3)
    assert "Activations" in report_html(workspace, [unit])


def test_units_without_any_text_are_refused_with_what_is_missing(workspace: Workspace, tmp_path: Path) -> None:
    files.bulk(tmp_path / "np", [files.feature()], [], [files.explanation()])
    with pytest.raises(AtlasError, match="hold no text on which one was active"):
        files.take(workspace, tmp_path / "np")


def test_one_feature_of_neuronpedias_interface_comes_in_with_its_scores_by_their_names(workspace: Workspace, tmp_path: Path) -> None:
    score = {"value": 0.9, "explanationScoreTypeName": "eleuther_fuzz", "explanationScoreModelName": "gpt-4o-mini"}
    document = files.feature(
        activations=[files.activation()],
        explanations=[files.explanation(scores=[score], notes="seen twice")],
        source={"num_prompts": 100, "num_tokens_in_prompt": 128},
    )
    (unit,) = files.take(workspace, files.write(tmp_path / "f.json", document)).units
    assert load_unit(workspace, unit).stats["tokens"] == 12_800
    (explanation,) = said(workspace, unit)
    assert explanation.scores == ()  # a share of right answers is no correlation
    assert explanation.recipe["scores"] == [{"kind": "eleuther_fuzz", "by": "gpt-4o-mini", "value": 0.9}]
    assert explanation.recipe["notes"] == "seen twice"


def test_a_batch_of_sae_dashboard_comes_in(workspace: Workspace, tmp_path: Path) -> None:
    row = {name: value for name, value in files.feature().items() if name not in ("modelId", "layer", "index", "maxActApprox", "hookName")}
    row |= {"feature_index": 7, "n_prompts_total": 100, "n_tokens_in_prompt": 128}
    top = {"bin_min": -1, "bin_max": 3.5, "bin_contains": -1, "tokens": ["Ġhello", "Ġthere"], "values": [0.0, 2.5]}
    row["activations"] = [{**top, "qualifying_token_index": 1}]
    document = {"model_id": "gpt2-small", "layer": 6, "sae_set": "att-kk", "sae_id_suffix": None, "features": [row]}
    done = files.take(workspace, files.write(tmp_path / "batch-0.json", document))
    (unit,) = done.units
    assert (unit.site, unit.basis) == (Site("attn", 6), "att-kk")
    assert any("does not say" in remark for remark in done.remarks)
    view = load_unit(workspace, unit)
    assert texts(workspace, unit, view.bands["top"]) == [[" hello", " there"]]
    assert (view.stats["max"], view.stats["tokens"]) == (2.5, 12_800)


@pytest.mark.parametrize("form", ["folder", "zip", "lines"])
def test_the_same_data_in_any_form_are_the_same_run_and_twice_is_once(workspace: Workspace, tmp_path: Path, form: str) -> None:
    files.bulk(tmp_path / "np", [files.feature()], [files.activation()], [files.explanation()])
    first = files.take(workspace, tmp_path / "np")
    before = snapshot(workspace)
    path = tmp_path / "np"
    if form == "zip":
        path = tmp_path / "np.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((tmp_path / "np").rglob("*.gz")):
                archive.write(file, file.relative_to(tmp_path / "np").as_posix())
    if form == "lines":
        path = files.write(tmp_path / "all.jsonl", [files.activation(), files.explanation(), files.feature()])
    again = files.take(workspace, path)
    assert again.units == first.units
    assert not again.changed
    assert snapshot(workspace) == before


def test_a_real_model_of_that_name_is_left_alone(workspace: Workspace, tmp_path: Path) -> None:
    fill(workspace)
    before = snapshot(workspace)
    (unit,) = files.take(workspace, files.write(tmp_path / "n.json", files.neuron()), model="tiny").units
    assert unit.subject != "tiny"
    assert before.items() <= snapshot(workspace).items()
    assert registered(workspace) == ["tiny"]  # what cannot be loaded is not offered


def test_the_cache_takes_it_in_and_a_bundle_of_it_goes_on(workspace: Workspace, tmp_path: Path) -> None:
    files.bulk(tmp_path / "np", [files.feature()], [files.activation()], [files.explanation()])
    (unit,) = files.take(workspace, tmp_path / "np").units
    cache = Cache.open(workspace)
    assert cache.ingest() == []
    cache.close()
    export_bundle(workspace, [unit], tmp_path / "b.atlas.zip")
    other = Workspace.open(tmp_path / "other")
    from core.findings.bundle.importing import import_bundle
    from core.findings.bundle.staging import stage

    assert import_bundle(other, tmp_path / "b.atlas.zip", stage=stage).units == [unit]
    assert indexes(other)[0].imported_from == load_index(workspace, load_unit(workspace, unit).index.run).imported_from != ""


@pytest.mark.parametrize("format", ["openai", "openai-debugger", "neuronpedia"])
def test_what_we_write_for_others_comes_back_with_its_tokens_activations_and_explanations(
    source: Workspace, workspace: Workspace, tmp_path: Path, format: str
) -> None:
    if format == "neuronpedia":
        write_neuronpedia(source, UNITS, tmp_path / "out")
    else:
        write_openai(source, UNITS, tmp_path / "out", debugger=format.endswith("debugger"))
    back = {(unit.site, unit.index): unit for unit in files.take(workspace, tmp_path / "out").units}
    assert set(back) == {(unit.site, unit.index) for unit in UNITS}
    for unit in UNITS:
        there, here = load_unit(source, unit), load_unit(workspace, back[unit.site, unit.index])
        for band in ("top",) if format == "neuronpedia" else ("top", "random", "q0", "q1", "q2", "q3"):
            ours, theirs = there.bands[band], here.bands[band]
            key = [(-one.value, "".join(tokens)) for one, tokens in zip(ours, texts(source, unit, ours), strict=True)]
            assert len(theirs) == len({one.context for one in ours})
            assert sorted(texts(source, unit, ours)) == sorted(texts(workspace, here.name, theirs)), (band, key)
            mine = {tuple(row): one.activations[one.first :] for row, one in zip(texts(source, unit, ours), ours, strict=True)}
            for row, one in zip(texts(workspace, here.name, theirs), theirs, strict=True):
                np.testing.assert_allclose(one.activations, mine[tuple(row)], atol=float(np.abs(mine[tuple(row)]).max()) / 30_000)
        assert here.stats["max"] == pytest.approx(there.stats["max"], rel=1e-4)
        before, after = said(source, unit), said(workspace, here.name)
        assert [one.text for one in after] == [one.text for one in before]
        if format != "neuronpedia" and before:
            was, now = before[0].headline(), after[0].headline()
            assert was is not None
            assert now is not None
            assert (now.score.rho, now.score.r2) == (was.score.rho, was.score.r2)
            true = [one.activations.tolist() for one in before[0].of_role("simulated", was.split) if not one.failed]
            assert [one.activations.tolist() for one in after[0].of_role("simulated")] == true


def test_the_command_takes_files_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = files.write(tmp_path / "n.json", files.neuron())
    arguments = ["import", str(path), "--model", "gpt2-xl", "--json", "--workspace", str(tmp_path / "ws")]
    assert main(arguments) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["units"][0].startswith("gpt2-xl.openai-")
    assert document["changed"]
    assert "not carried: records by quantile" in printed.err
    assert main(["show", document["units"][0], "--workspace", str(tmp_path / "ws")]) == 0
    assert "nan" not in capsys.readouterr().out
    assert main([*arguments, "--units", "8-9"]) == 2
    assert "--units" in capsys.readouterr().err
    assert main([*arguments, "--units", "a"]) == 2
