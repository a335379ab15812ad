"""Files of other programs from people who mean harm: refused in a sentence, or only text; and the workspace is as it was."""

import gzip
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import AtlasError
from core.findings.bundle import checks
from core.findings.bundle.archive import Refused
from core.findings.exchange import foreign, sources
from core.findings.exchange.importing import import_any
from core.store.cache import Cache
from core.store.texts import load_vocab
from core.store.units import load_unit
from core.workspace import Workspace
from tests import foreign_files as files
from tests.shared_bundle import snapshot

FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NEST = 200


def refused(workspace: Workspace, path: Path) -> str:
    """The one sentence with which it is refused; the workspace must be as it was."""
    before = snapshot(workspace)
    with pytest.raises(AtlasError) as caught:
        files.take(workspace, path)
    assert snapshot(workspace) == before
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 500
    return sentence


def feature_with(**changes: Any) -> list[Any]:
    return [files.feature(**changes)]


def activation_with(**changes: Any) -> list[Any]:
    return [files.activation(**changes)]


WRONG: dict[str, Any] = {
    "a unit twice": [files.neuron(), files.neuron()],
    "a feature twice": [files.feature(), files.feature()],
    "several models": [files.feature(), files.feature(8, modelId="other")],
    "several programs": [files.feature(), files.neuron()],
    "an index that is none": feature_with(index="../7"),
    "a negative index": feature_with(index=-1),
    "an index of another kind": feature_with(index=[7]),
    "an index beyond all": feature_with(index="999999999999"),
    "a layer that is none": feature_with(layer="../../x"),
    "a model of another kind": feature_with(modelId=7),
    "a maximum of another kind": feature_with(maxActApprox="high"),
    "a number too large": feature_with(maxActApprox=1e300),
    "truth for a number": feature_with(maxActApprox=True),
    "logits of another length": feature_with(pos_values=[1.0]),
    "tokens of another kind": feature_with(pos_str=[1, 2]),
    "fewer activations than tokens": activation_with(values=[1.0]),
    "no tokens": activation_with(tokens=[], values=[]),
    "activations missing": activation_with(values=[None] * 5),
    "activations of another kind": activation_with(values={"a": 1}),
    "tokens that are a text": activation_with(tokens="hello"),
    "a context without end": activation_with(tokens=["x"] * 5000, values=[0.0] * 5000),
    "a token without end": activation_with(tokens=["x" * 10_000], values=[0.0]),
    "words without end": [files.explanation(description="x" * 100_000)],
    "words of another kind": [files.explanation(description=["x"])],
    "a batch that is none": [{"model_id": "m", "layer": 1, "features": [7]}],
    "a layer of another kind": [{"model_id": "m", "layer": "one", "features": []}],
    "a neuron that is none": [files.neuron(neuron_id=7)],
    "a neuron without a layer": [files.neuron(neuron_id={"neuron_index": 1})],
    "records that are none": [files.neuron(most_positive_activation_records=[[1]])],
    "a moment of another kind": [files.neuron(mean={"a": 1})],
    "explanations that are none": [{"neuron_id": {"layer_index": 1, "neuron_index": 1}, "scored_explanations": [3]}],
    "nothing known": [{"hello": "world"}],
    "a layer beyond all": [files.neuron(neuron_id={"layer_index": 99_999, "neuron_index": 1})],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_as_it_should_be_is_refused(workspace: Workspace, tmp_path: Path, what: str) -> None:
    refused(workspace, files.write(tmp_path / "wrong.jsonl", WRONG[what]))


RAW: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"hello",
    "half a line": b'{"modelId": "m", "index"',
    "lists in lists": b'{"neuron_id": ' + b"[" * 100_000,
    "objects in objects": b'{"neuron_id": ' + b'{"a": ' * NEST + b"1" + b"}" * NEST + b"}",
    "infinity": json.dumps(files.activation()).replace("3.5", "Infinity").encode(),
    "a number beyond a double": json.dumps(files.activation()).replace("3.5", "1e999").encode(),
    "digits without end": json.dumps(files.activation()).replace("3.5", "9" * 5000).encode(),
    "a key twice": b'{"modelId": "m", "modelId": "n", "layer": "1", "index": "1"}',
    "no UTF-8": b'{"modelId": "\xff"}',
    "a list": b"[1, 2]",
    "gzip cut short": gzip.compress(json.dumps(files.feature()).encode())[:-12],
    "gzip of noise": b"\x1f\x8b" + b"noise" * 20,
    "a zip cut short": b"PK\x03\x04" + b"\0" * 40,
    "a second line that is none": (json.dumps(files.feature()) + "\n{").encode(),
}


@pytest.mark.parametrize("what", RAW)
def test_files_that_are_broken_are_refused(workspace: Workspace, tmp_path: Path, what: str) -> None:
    (tmp_path / "raw.json").write_bytes(RAW[what])
    refused(workspace, tmp_path / "raw.json")


def test_not_a_number_is_no_number(workspace: Workspace, tmp_path: Path) -> None:
    """As Python's json writes it: missing where that may be, refused where not."""
    (tmp_path / "n.json").write_text(json.dumps(files.neuron(kurtosis=float("nan"))))
    (unit,) = files.take(workspace, tmp_path / "n.json").units
    assert load_unit(workspace, unit).stats["kurtosis"] != load_unit(workspace, unit).stats["kurtosis"]
    (tmp_path / "a.json").write_text(json.dumps(files.activation(values=[0.0, float("nan"), 0.0, 0.0, 0.0])))
    assert "lacks activations" in refused(workspace, tmp_path / "a.json")


def test_bombs_are_refused_before_they_go_off(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(b'{"modelId": "' + b"a" * (300 << 20) + b'"}')
    (tmp_path / "bomb.json.gz").write_bytes(bomb)
    assert "times its size" in refused(workspace, tmp_path / "bomb.json.gz")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.json", b"{" + b" " * (100 << 20) + b"}")
    assert "times its size" in refused(workspace, tmp_path / "bomb.zip")
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a.json.gz", bomb)
    assert "times its size" in refused(workspace, tmp_path / "two.zip")
    monkeypatch.setattr(sources, "TOTAL_BYTES", 4 << 20)
    monkeypatch.setattr(sources.Budget.__init__, "__defaults__", (4 << 20,))
    many = files.write(tmp_path / "many.jsonl", [files.explanation(at % 100, notes=os.urandom(4000).hex()) for at in range(800)])
    assert "a part of it" in refused(workspace, many)


def test_a_million_entries_are_refused(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write(tmp_path / "units.jsonl", [files.explanation(index) for index in range(checks.UNITS + 1)])
    assert "--units" in refused(workspace, path)
    path = files.write(tmp_path / "said.jsonl", [files.explanation() for _ in range(foreign.SAID + 1)])
    assert "explanations" in refused(workspace, path)
    monkeypatch.setattr(foreign, "RECORDS", 5)
    path = files.write(tmp_path / "records.jsonl", [files.activation(tokens=[*"abcd", str(at)]) for at in range(6)])
    assert "records" in refused(workspace, path)
    monkeypatch.setattr(sources, "FILES", 3)
    for at in range(8):
        files.write(tmp_path / "folder" / f"{at}.json", files.neuron(index=at))
    assert "files" in refused(workspace, tmp_path / "folder")


def test_links_are_not_followed_and_names_lead_nowhere(workspace: Workspace, tmp_path: Path) -> None:
    outside = files.write(tmp_path / "outside" / "n.json", files.neuron())
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "link.json").symlink_to(outside)
    (folder / "linked").symlink_to(outside.parent)
    refused(workspace, folder)
    with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
        archive.writestr("../../evil/mlp/x/neurons/1/7.json", json.dumps(files.neuron()))
    before = {path for path in tmp_path.rglob("*") if workspace.path not in path.parents}
    (unit,) = files.take(workspace, tmp_path / "slip.zip").units
    assert unit.subject.startswith("evil.openai-")
    assert {path for path in tmp_path.rglob("*") if workspace.path not in path.parents} == before
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a.json", json.dumps(files.neuron()))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.json", json.dumps(files.neuron(9)))
    assert "two members" in refused(workspace, tmp_path / "twice.zip")


EVIL = "'); DROP TABLE units; --<script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m{{7*7}}\x00"


def test_sql_and_html_in_every_field_are_only_text(workspace: Workspace, tmp_path: Path) -> None:
    evil = EVIL + "\ud800"  # half a character, which no file can hold
    rows = [
        files.activation(modelId=evil, tokens=[evil] * 5, dataSource=evil, dataIndex=evil),
        files.explanation(modelId=evil, description=evil, typeName=evil, explanationModelName=evil, authorId=evil, notes=evil),
        files.feature(modelId=evil, pos_str=[evil, evil], pos_values=[1.0, 2.0], hookName=evil[:150]),
    ]
    rows[1]["scores"] = [{"value": 1, "explanationScoreTypeName": evil, "explanationScoreModelName": evil}]
    (unit,) = files.take(workspace, files.write(tmp_path / "evil.jsonl", rows)).units
    told = EVIL + "\ufffd"
    assert load_vocab(workspace, unit.subject).pieces(load_unit(workspace, unit).bands["top"][0].tokens.tolist()) == [told] * 5
    cache = Cache.open(workspace)
    assert cache.ingest() == []
    with cache.cursor() as cursor:
        assert cursor.execute("SELECT count(*) FROM units").fetchall() == [(1,)]
        assert cursor.execute("SELECT text FROM explanations").fetchall() == [(told,)]
    cache.close()


def _anything() -> st.SearchStrategy[Any]:
    plain = st.none() | st.booleans() | st.integers(-10, 10**19) | st.floats() | st.text(max_size=20)
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4), max_leaves=8
    )


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else []
    return [at, *(place for key, one in inside for place in _places(one, (*at, key)))]


def _changed(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    if not place:
        return new
    key, *rest = place
    if isinstance(value, dict):
        return {**value, key: _changed(value[key], tuple(rest), new)}
    return [*value[:key], _changed(value[key], tuple(rest), new), *value[key + 1 :]]


MAKERS: list[Callable[[], Any]] = [files.neuron, files.explained, files.feature, files.activation, files.explanation]


@FUZZ
@given(data=st.data())
def test_any_value_in_any_place_is_refused_or_taken_in(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever stands anywhere in a document: a sentence, or a unit whose page can be read."""
    document = data.draw(st.sampled_from(MAKERS))()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(_places(document)))
        if place and document:
            document = _changed(document, place, data.draw(_anything()))
    workspace = Workspace.open(tmp_path / f"ws-{os.urandom(6).hex()}")
    path = tmp_path / f"{os.urandom(6).hex()}.json"
    path.write_text(json.dumps(document), "utf8")
    try:
        done = files.take(workspace, path)
    except AtlasError:
        assert not list(workspace.runs.iterdir())
        return
    for unit in done.units:
        load_unit(workspace, unit)


@FUZZ
@given(data=st.data())
def test_any_bytes_changed_are_refused_or_taken_in(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(b"".join(json.dumps(make()).encode() + b"\n" for make in (files.feature, files.activation, files.explanation)))
    if data.draw(st.booleans()):
        content = bytearray(gzip.compress(bytes(content)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    workspace = Workspace.open(tmp_path / f"ws-{os.urandom(6).hex()}")
    path = tmp_path / f"{os.urandom(6).hex()}.jsonl"
    path.write_bytes(content)
    try:
        assert files.take(workspace, path).runs
    except AtlasError:
        assert not list(workspace.runs.iterdir())


def test_the_process_of_its_own_refuses_in_a_sentence(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="twice"):
        import_any(workspace, files.write(tmp_path / "twice.jsonl", [files.feature(), files.feature()]))
    with pytest.raises(AtlasError, match="no file"):
        import_any(workspace, tmp_path / "missing.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="nothing that is taken in"):
        import_any(workspace, tmp_path / "empty")
    (tmp_path / "cut.zip").write_bytes(RAW["a zip cut short"])
    with pytest.raises(Refused, match="end is missing"):
        import_any(workspace, tmp_path / "cut.zip")
    assert not list(workspace.runs.iterdir())
