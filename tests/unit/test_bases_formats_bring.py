"""A published dictionary is brought in when it is of this model and site, and refused in one sentence when it is not."""

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from core.bases.dictionary import load
from core.bases.formats.bring import bring
from core.bases.formats.bring_request import BringRequest
from core.bases.formats.bring_run import doubts, run_bring
from core.bases.info import BasisInfo
from core.bases.shelf import find_named, shelved
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import Site
from core.workspace import Workspace
from tests.job_text import write_text
from tests.models import D_MODEL, HEADS, MLP_WIDTH, load_tiny_model
from tests.published import arrays, write_dictionary_learning, write_gemma_scope, write_saelens, write_sparsify

UNITS = 40
GIVEN = arrays(D_MODEL, UNITS)
SAID = {"model_name": "owner/GPT2", "hook_name": "blocks.1.hook_resid_post"}


class Steps:
    """Progress that only remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def update(self, done: int, total: int, message: str = "", unit: str = "contexts") -> None:
        assert 0 <= done <= total

    def stage(self, name: str) -> None:
        self.lines.append(name)

    def log(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    return load_tiny_model(tmp_path_factory.mktemp("bring"), "gpt2", 2)


def refusal(workspace: Workspace, subject: Subject, source: str | Path, **how: Any) -> str:
    with pytest.raises(AtlasError) as caught:
        bring(workspace, subject, source, **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_named_placed_and_described(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "Release" / "blocks.1.hook_resid_post", GIVEN, "jumprelu", metadata=SAID | {"prepend_bos": True})
    made = bring(workspace, tiny, folder)
    info = made.info
    assert (info.name, info.subject, info.site) == ("release-blocks.1.hook_resid_post", "gpt2", Site("resid", 1))
    assert (info.rule, info.units, info.d_in, info.weights_hash) == ("jumprelu", UNITS, D_MODEL, tiny.info.weights_hash)
    assert (info.source["format"], info.source["model"], info.source["about"]["bos"]) == ("saelens", "owner/GPT2", True)
    kept = made.save(workspace)
    again = load(kept)
    assert all(torch.equal(again.tensors[name], made.tensors[name]) for name in made.tensors)
    assert bring(workspace, tiny, folder, name="mine").info.name == "mine"


def test_another_model_or_none_is_refused_unless_asked_for(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    other = write_saelens(tmp_path / "a", GIVEN, metadata=SAID | {"model_name": "gpt2-medium"})
    assert "trained on gpt2-medium, not on gpt2" in refusal(workspace, tiny, other)
    made = bring(workspace, tiny, other, any_model=True)
    assert "says it was trained on gpt2-medium" in made.info.source["notes"][0]
    silent = write_saelens(tmp_path / "b", GIVEN, metadata=SAID | {"model_name": None})
    assert "does not say which model" in refusal(workspace, tiny, silent)
    assert bring(workspace, tiny, silent, any_model=True).info.site == Site("resid", 1)


def test_another_site_width_layer_or_head_is_refused(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    good = write_saelens(tmp_path / "a", GIVEN, metadata=SAID)
    assert "says that it reads resid.1 (blocks.1.hook_resid_post), not resid.0" in refusal(workspace, tiny, good, site=Site("resid", 0))
    deep = write_saelens(tmp_path / "b", GIVEN, metadata=SAID | {"hook_name": "blocks.7.hook_resid_post"})
    assert "reads resid.7, and the layers of gpt2 are 0 to 1" in refusal(workspace, tiny, deep)
    mlp = write_saelens(tmp_path / "c", GIVEN, metadata=SAID | {"hook_name": "blocks.1.mlp.hook_post"})
    assert f"reads {D_MODEL} numbers, and mlp.1 of gpt2 has {MLP_WIDTH}" in refusal(workspace, tiny, mlp)
    # any_model is about names: widths are always checked
    assert "has 48" in refusal(workspace, tiny, mlp, any_model=True)
    head = {"hook_name": "blocks.1.attn.hook_z", "hook_head_index": 3}
    size = D_MODEL // HEADS
    fits = write_saelens(tmp_path / "d", arrays(size, UNITS), metadata=SAID | head)
    made = bring(workspace, tiny, fits)
    assert (made.info.site, made.info.head, made.info.d_in) == (Site("attn", 1), 3, size)
    wide = write_saelens(tmp_path / "e", GIVEN, metadata=SAID | head)
    assert f"heads 0 to {HEADS - 1} of {size}" in refusal(workspace, tiny, wide)
    beyond = write_saelens(tmp_path / "f", arrays(size, UNITS), metadata=SAID | head | {"hook_head_index": HEADS})
    assert f"of head {HEADS}" in refusal(workspace, tiny, beyond)


def test_a_site_that_the_file_does_not_say_is_asked_for(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    scope = write_gemma_scope(tmp_path / "somewhere", GIVEN)
    assert "say it with --site" in refusal(workspace, tiny, scope, any_model=True)
    assert bring(workspace, tiny, scope, any_model=True, site=Site("resid", 0)).info.site == Site("resid", 0)
    learned = write_dictionary_learning(tmp_path / "learned", GIVEN, lm_name="gpt2")
    assert bring(workspace, tiny, learned / "ae.pt").info.site == Site("resid", 0)
    sparse = write_sparsify(tmp_path / "run" / "h.1", GIVEN)
    (tmp_path / "run" / "config.json").write_text(json.dumps({"model": "openai-community/gpt2"}), "utf8")
    assert bring(workspace, tiny, sparse).info.site == Site("resid", 1)


def test_centred_weights_centre_here_where_the_model_has_layer_norm(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    made = bring(workspace, tiny, write_saelens(tmp_path / "a", GIVEN, metadata=SAID | kwargs))
    assert made.info.prepare.centre == "per_token"
    llama = load_tiny_model(tmp_path, "llama", 2)
    given = write_saelens(tmp_path / "b", GIVEN, metadata=SAID | kwargs | {"model_name": "llama"})
    assert bring(workspace, llama, given).info.prepare.centre == "none"


def test_another_dictionary_is_not_replaced_by_its_name(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    first = write_saelens(tmp_path / "a", GIVEN, metadata=SAID)
    bring(workspace, tiny, first, name="one").save(workspace)
    bring(workspace, tiny, first, name="one")
    other = write_saelens(tmp_path / "b", arrays(D_MODEL, UNITS, seed=9), metadata=SAID)
    assert "There is a dictionary “one” at resid.1 of gpt2 already" in refusal(workspace, tiny, other, name="one")


def test_sources_that_are_nothing(workspace: Workspace, tiny: Subject, tmp_path: Path) -> None:
    assert "No dictionary was named" in refusal(workspace, tiny, " ")
    assert "There is nothing at /no/such" in refusal(workspace, tiny, "/no/such/folder")
    assert "There is nothing at single" in refusal(workspace, tiny, "single")
    assert "HF_HUB_OFFLINE forbids fetching it" in refusal(workspace, tiny, "owner/missing")
    folder = write_saelens(tmp_path / "a", GIVEN, metadata=SAID)
    assert "nothing has revisions" in refusal(workspace, tiny, folder, revision="main")


def cached(root: Path, commit: str = "a" * 40) -> Path:
    """The hub's cache with one repository of two dictionaries in it, as its own library lays it out."""
    repository = root / "models--owner--saes"
    for layer in (0, 1):
        meant = SAID | {"hook_name": f"blocks.{layer}.hook_resid_post"}
        real = write_saelens(repository / "blobs" / str(layer), GIVEN, metadata=meant)
        snapshot = repository / "snapshots" / commit / f"layer_{layer}"
        snapshot.mkdir(parents=True)
        for name in ("cfg.json", "sae_weights.safetensors"):
            (snapshot / name).symlink_to(os.path.relpath(real / name, snapshot))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit, "utf8")
    return root


def test_offline_it_comes_from_the_hubs_cache(workspace: Workspace, tiny: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cached(tmp_path / "hub")))
    made = bring(workspace, tiny, "owner/saes", file="layer_1")
    assert (made.info.name, made.info.site) == ("saes-layer_1", Site("resid", 1))
    assert made.info.source["from"] == "hub"
    assert (made.info.source["repository"], made.info.source["revision"]) == ("owner/saes", "a" * 40)
    assert made.info.source["path"] == "layer_1/sae_weights.safetensors"
    assert bring(workspace, tiny, "owner/saes/layer_0").info.site == Site("resid", 0)
    assert "holds 2 dictionaries: say which with --file, such as layer_0, layer_1" in refusal(workspace, tiny, "owner/saes")
    assert "HF_HUB_OFFLINE" in refusal(workspace, tiny, "owner/saes", revision="other", file="layer_1")


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as fetching a few files of one repository takes."""

    folder: Path
    asked: list[str]
    commit = "b" * 40

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/owner/saes/revision/") or path == "/api/models/owner/saes":
            files = [path for path in self.folder.rglob("*") if path.is_file()]
            siblings = [{"rfilename": path.relative_to(self.folder).as_posix(), "size": path.stat().st_size} for path in files]
            self._say(200, json.dumps({"id": "owner/saes", "sha": self.commit, "siblings": siblings}).encode())
            return
        name = path.partition("/owner/saes/resolve/main/")[2]
        if not name or not (self.folder / name).is_file():
            self._say(404, b"{}", {"X-Error-Code": "EntryNotFound" if name else "RepoNotFound"})
            return
        if self.command == "GET":
            self.asked.append(name)
        self._say(200, (self.folder / name).read_bytes(), {"ETag": f'"{name.replace("/", "-")}"', "X-Repo-Commit": self.commit})

    do_HEAD = do_GET

    def _say(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A hub on this machine with two dictionaries and other files in one repository."""
    folder = tmp_path / "repository"
    for layer in (0, 1):
        write_saelens(folder / f"layer_{layer}", GIVEN, metadata=SAID)
    (folder / "optimizer.bin").write_bytes(bytes(1000))
    (folder / "layer_1" / "sparsity.safetensors").write_bytes(bytes(1000))
    asked: list[str] = []
    handler = type("Hub", (_Hub,), {"folder": folder, "asked": asked})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_online_only_the_files_of_the_one_dictionary_are_fetched(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    code = """
import os
from huggingface_hub import constants
from core.bases.formats.hub import fetch
from core.errors import AtlasError
got = fetch("owner/saes", None, "layer_1")
print(got.place.label, got.weights, got.commit, got.place.has("cfg.json"), got.place.has("sparsity.safetensors"))
for repository, file in (("owner/saes", "layer_7"), ("owner/none", None)):
    try:
        fetch(repository, None, file)
    except AtlasError as error:
        print(error)
constants.HF_HUB_OFFLINE = True
print(fetch("owner/saes", "main", "layer_1") == got)
constants.HF_HUB_OFFLINE = False
os.environ["HF_ENDPOINT"] = constants.ENDPOINT = "http://127.0.0.1:9"
print(fetch("owner/saes", None, None) == got)
try:
    fetch("owner/others", None, None)
except AtlasError as error:
    print(error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub[0], "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, missing, unknown, offline, unplugged, unreachable = done.stdout.splitlines()
    assert first == f"owner/saes/layer_1 sae_weights.safetensors {'b' * 40} True False"
    assert "no dictionary at “layer_7”: it has layer_0, layer_1" in missing
    assert "There is no repository “owner/none” on the hub" in unknown
    assert (offline, unplugged) == ("True", "True")  # from the cache, though it holds a part of the repository only
    assert "“owner/others” is not on this machine and the hub cannot be reached" in unreachable
    assert sorted(hub[1]) == ["layer_1/cfg.json", "layer_1/sae_weights.safetensors"]


def test_the_run_puts_it_on_the_shelf_measured(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "ws")
    load_tiny_model(tmp_path, "gpt2", 2)
    folder = write_saelens(tmp_path / "sae", GIVEN, "topk", k=5, metadata=SAID | {"prepend_bos": True})
    run_dir = workspace.runs / "dictionary-1"
    run_dir.mkdir()
    corpus = {"source": str(write_text(tmp_path / "text.jsonl")), "contexts": 20, "length": 16}
    steps = Steps()
    run_bring(workspace, run_dir, {"model": "gpt2", "source": str(folder), "name": "topk-5", "corpus": corpus, "device": "cpu"}, steps)
    kept = find_named(workspace, "topk-5")
    assert 0 < kept.info.metrics["l0"] <= 5
    assert kept.info.metrics["explained_variance"] < 1
    assert kept.info.metrics["weights"] == kept.hash
    manifest = json.loads((run_dir / "manifest.json").read_text("utf8"))
    assert (manifest["kind"], manifest["dictionary"]) == ("dictionary", "gpt2/resid.1/topk-5")
    assert manifest["slice"]["bos"] is True  # as the dictionary's makers did
    assert manifest["metrics"]["l0"] == kept.info.metrics["l0"]
    # random weights reconstruct worse than the mean does, and the run says so
    (warning,) = manifest["warnings"]
    assert "worse than the mean" in warning
    assert warning in steps.lines
    # resuming does it again, and the same file takes the place of itself
    run_bring(workspace, run_dir, {"model": "gpt2", "source": str(folder), "name": "topk-5", "corpus": corpus, "device": "cpu"}, Steps())
    assert len(shelved(workspace)) == 1


def test_numbers_far_from_the_files_own_become_sentences() -> None:
    def about(**said: float) -> BasisInfo:
        return BasisInfo("a", "tiny", Site("resid", 0), "sae", "relu", 4, 8, source={"said": said})

    assert doubts(about(explained_variance=0.82), {"explained_variance": 0.41}) == [
        "Explained variance here 0.41, the file says 0.82: is it the right model and text?"
    ]
    assert doubts(about(explained_variance=0.82, l0=50.0), {"explained_variance": 0.78, "l0": 61.0}) == []
    assert doubts(about(l0=71.0), {"explained_variance": None, "l0": 300.5}) == [
        "L0 here 300.5, the file says 71.0: is it the right model and text?"
    ]


def test_requests_are_checked_before_a_run_begins() -> None:
    asked = BringRequest.from_params({"source": "owner/saes", "site": "resid.3", "file": "", "any_model": True})
    assert BringRequest.from_params(asked.params()) == asked
    assert asked.file is None
    for params, said in (
        ({}, "No dictionary was named"),
        ({"source": "a/b", "site": "hook"}, "not a site"),
        ({"source": "a/b", "name": "Mine!"}, "not the name of a basis"),
        ({"source": "a/b", "any_model": "yes"}, "true or false"),
        ({"source": "a/b", "file": 3}, "not a file"),
        ({"source": "a/b", "colour": 3}, "no parameter “colour”"),
    ):
        with pytest.raises(AtlasError, match=said):
            BringRequest.from_params(params)
