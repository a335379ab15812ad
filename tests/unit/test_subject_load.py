"""Loading and registering subjects: names, collisions, and one sentence for everything that can be wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from core.errors import AtlasError
from core.subject.info import SubjectInfo, registered, subject_info
from core.subject.load import load_subject
from core.units import Site
from core.vocab import Vocab
from core.workspace import Workspace
from tests.models import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]
BY_HAND = "blocks=model.layers,mlp=mlp.c_proj,attn=self_attn.o_proj"


def load(workspace: Workspace, name: Path | str, **options: str) -> SubjectInfo:
    return load_subject(workspace, str(name), device="cpu", **options).info  # type: ignore[arg-type]


def refusal(workspace: Workspace, name: Path | str, **options: str) -> str:
    """The sentence that loading gives. Nothing may be left in the workspace."""
    before = sorted(workspace.subjects.rglob("*"))
    with pytest.raises(AtlasError) as caught:
        load(workspace, name, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sorted(workspace.subjects.rglob("*")) == before
    return sentence


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_tiny_model(tmp_path / "Tiny Model")


def test_the_first_load_registers_and_the_slug_loads_the_same(workspace: Workspace, tiny: Path) -> None:
    info = load(workspace, tiny)
    assert (info.slug, info.source, info.revision, info.architecture) == ("tiny-model", "folder", None, "llama")
    assert (info.n_layers, info.d_model, info.widths, info.vocab_size) == (2, 32, {"mlp": 48, "resid": 32, "attn": 32}, 290)
    assert (info.context_limit, info.bos_token_id, info.name_or_path) == (128, 0, str(tiny))
    assert registered(workspace) == ["tiny-model"]
    assert subject_info(workspace, "tiny-model") == info
    files = {path: path.stat().st_mtime_ns for path in (workspace.subjects / "tiny-model").iterdir()}
    assert load(workspace, "tiny-model") == info
    assert load(workspace, tiny) == info
    assert {path: path.stat().st_mtime_ns for path in (workspace.subjects / "tiny-model").iterdir()} == files


def test_subject_json_holds_the_fields_of_the_contract(workspace: Workspace, tiny: Path) -> None:
    load(workspace, tiny)
    stored = json.loads((workspace.subjects / "tiny-model" / "subject.json").read_text())
    contract = "slug source revision architecture n_layers d_model widths vocab_size context_limit bos_token_id"
    assert sorted(stored) == sorted(f"{contract} tokenizer_hash weights_hash name_or_path".split())
    assert SubjectInfo.from_json(stored).to_json() == stored


def test_the_vocabulary_saved_is_the_tokenizers(workspace: Workspace, tiny: Path) -> None:
    subject = load_subject(workspace, str(tiny), device="cpu")
    vocab = Vocab.load(workspace.subjects / "tiny-model" / "vocab.parquet")
    text = "The 漢字 🙂 the\n"
    ids = subject.encode([text, ""])
    assert vocab.decode(ids[0]) == text
    assert ids[1] == []
    assert subject.encode([]) == []


def test_another_model_of_the_same_name_gets_a_slug_of_its_own(workspace: Workspace, tmp_path: Path) -> None:
    first, second = (load(workspace, make_tiny_model(tmp_path / folder / "tiny", seed=seed)) for folder, seed in (("a", 0), ("b", 1)))
    assert first.slug == "tiny"
    assert second.slug == f"tiny-{second.weights_hash[:8]}"
    assert load(workspace, second.slug) == second
    assert load(workspace, "tiny") == first


def test_the_same_weights_elsewhere_are_the_same_subject(workspace: Workspace, tiny: Path, tmp_path: Path) -> None:
    info = load(workspace, tiny)
    copy = tmp_path / "copies" / tiny.name
    shutil.copytree(tiny, copy)
    shutil.rmtree(tiny)
    assert "is gone" in refusal(workspace, "tiny-model")
    moved = load(workspace, copy)
    assert (moved.slug, moved.weights_hash, moved.name_or_path) == (info.slug, info.weights_hash, str(copy))
    assert load(workspace, "tiny-model") == moved


def test_the_embedded_models_slug_is_kept_for_it(workspace: Workspace, tmp_path: Path) -> None:
    info = load(workspace, make_tiny_model(tmp_path / "SmolLM2-135M-Instruct"))
    assert info.slug == f"smollm2-135m-instruct-{info.weights_hash[:8]}"


def test_a_model_that_changed_under_its_slug_is_refused(workspace: Workspace, tiny: Path) -> None:
    before = load(workspace, tiny)
    make_tiny_model(tiny, seed=9)
    assert "has changed since “tiny-model”" in refusal(workspace, "tiny-model")
    assert load(workspace, tiny).slug != before.slug


def test_a_sharded_model_is_the_same_model(workspace: Workspace, tiny: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    shutil.copytree(tiny, sharded, ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(sharded, max_shard_size="40KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    one, other = (load_subject(workspace, str(path), device="cpu") for path in (tiny, sharded))
    tokens = torch.arange(2, 14)[None]
    assert torch.equal(one.logits(tokens), other.logits(tokens))
    lost = next(sharded.glob("*.safetensors"))
    lost.unlink()
    assert f"{lost.name} is missing" in refusal(workspace, sharded)


def test_bfloat16_and_provenance(workspace: Workspace, tiny: Path) -> None:
    subject = load_subject(workspace, str(tiny), dtype="bfloat16", device="cpu")
    assert subject.capture(torch.tensor([[5, 6]]), [Site("mlp", 0)])[Site("mlp", 0)].dtype == torch.bfloat16
    assert subject.write_directions(Site("mlp", 0)).dtype == subject.unembedding().dtype == torch.float32
    said = subject.provenance()
    assert (said["dtype"], said["device"], said["matmul"], said["weights_hash"]) == (
        "bfloat16",
        "cpu",
        "torch default",
        subject.info.weights_hash,
    )
    assert said["versions"]["torch"] == torch.__version__


def test_an_unknown_architecture_works_when_its_modules_are_named(workspace: Workspace, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "starcoder2", "starcoder2")
    sentence = refusal(workspace, folder)
    assert "“starcoder2” is not in the table" in sentence
    assert "--architecture blocks=model.layers,mlp=mlp.down_proj,attn=self_attn.o_proj" in sentence
    subject = load_subject(workspace, str(folder), device="cpu", architecture=f"{BY_HAND},norm=model.norm")
    tokens = torch.arange(2, 14)[None]
    mlp, resid = Site("mlp", 1), Site("resid", 0)
    found = subject.capture(tokens, [mlp, resid, Site("attn", 1), Site("resid", 1)])
    block = subject.model.model.layers[1]
    rebuilt = found[resid] + block.self_attn.o_proj(found[Site("attn", 1)]) + block.mlp.c_proj(found[mlp])
    torch.testing.assert_close(rebuilt, found[Site("resid", 1)], rtol=1e-5, atol=1e-5)
    again = load_subject(workspace, "starcoder2", device="cpu")  # the paths are remembered with the slug
    assert torch.equal(again.capture(tokens, [mlp])[mlp], found[mlp])
    assert torch.equal(again.unembedding(), subject.unembedding())


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        ("blocks=model.layers", "lacks mlp and attn"),
        ("model.layers", "does not name a module"),
        (f"{BY_HAND},colour=red", "does not name a module"),
        ("blocks=model.norm,mlp=mlp.c_proj,attn=self_attn.o_proj", "is not a list of blocks"),
        ("blocks=model.layers,mlp=mlp.nothing,attn=self_attn.o_proj", "no module “mlp.nothing” in block 0"),
        ("blocks=model.layers,mlp=mlp.c_fc,attn=self_attn.o_proj", "writes 48 numbers, not the model's 32"),
        ("blocks=model.layers,mlp=mlp.act,attn=self_attn.o_proj", "holds no plain matrix"),
        (f"{BY_HAND},norm=model.nothing", "no module “model.nothing” in the model"),
    ],
)
def test_paths_that_do_not_fit_are_refused(workspace: Workspace, tmp_path: Path, paths: str, sentence: str) -> None:
    assert sentence in refusal(workspace, make_tiny_model(tmp_path / "starcoder2", "starcoder2"), architecture=paths)


@pytest.mark.parametrize(
    ("kind", "sentence"), [("bert", "is an encoder:"), ("t5", "is an encoder-decoder"), ("vit", "is not a language model")]
)
def test_models_that_do_not_predict_the_next_token_are_refused(workspace: Workspace, tmp_path: Path, kind: str, sentence: str) -> None:
    assert sentence in refusal(workspace, make_tiny_model(tmp_path / kind, kind, 1), architecture=BY_HAND)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nobody/nothing", "“nobody/nothing” is not on this machine and HF_HUB_OFFLINE forbids downloading it"),
        ("gpt2", "HF_HUB_OFFLINE"),
        ("a b", "neither a folder nor a model's name"),
        ("../../nowhere/x", "There is no folder"),
        ("<script>alert(1)</script>", "neither a folder nor a model's name"),
        ("", "No model was named"),
        ("gpt\n2\x00", "only printable characters"),
        ("https://huggingface.co/gpt2", "is an address"),
        ("/nowhere/at/all", "There is no folder /nowhere/at/all"),
        ("./nowhere", "There is no folder"),
        (__file__, "is a file"),
        (str(Path(__file__).parent), "there is no config.json in it"),
    ],
)
def test_names_that_lead_nowhere(workspace: Workspace, name: str, sentence: str) -> None:
    assert sentence in refusal(workspace, name)


def test_wrong_options(workspace: Workspace, tiny: Path) -> None:
    assert "choose float32 or bfloat16" in refusal(workspace, tiny, dtype="float16")
    assert "a folder has no revisions" in refusal(workspace, tiny, revision="main")
    for device, sentence in (("gpu", "is not a device"), ("meta", "no device “meta”"), ("cuda:77", "no device “cuda:77”")):
        with pytest.raises(AtlasError, match=sentence):
            load_subject(workspace, str(tiny), device=device)


def test_only_pickled_weights_are_refused(workspace: Workspace, tiny: Path) -> None:
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    assert "has no safetensors weights; pickled ones" in refusal(workspace, tiny)


def test_damaged_files(workspace: Workspace, tiny: Path) -> None:
    weights = tiny / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:-100], whole[:50], b"", b"rubbish" * 100):
        weights.write_bytes(content)
        assert "The weights of" in (sentence := refusal(workspace, tiny))
        assert "are damaged" in sentence
    weights.write_bytes(whole)
    tensors = load_file(weights)
    del tensors["model.layers.1.mlp.down_proj.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "model.layers.1.mlp.down_proj.weight" in refusal(workspace, tiny)
    tensors["model.layers.1.mlp.down_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, weights, metadata={"format": "pt"})
    assert "do not fit its config.json: model.layers.1.mlp.down_proj.weight" in refusal(workspace, tiny)
    weights.write_bytes(whole)
    (tiny / "tokenizer.json").write_text("{rubbish")
    assert "The tokenizer in" in refusal(workspace, tiny)
    (tiny / "tokenizer.json").unlink()
    assert "has no tokenizer that can be read" in refusal(workspace, tiny)
    (tiny / "config.json").write_text('{"model_type": "nonesuch"}')
    assert "update transformers" in refusal(workspace, tiny)
    for content in ("{rubbish", "[]", "{}"):
        (tiny / "config.json").write_text(content)
        assert "cannot be used" in refusal(workspace, tiny)


def test_a_models_own_code_is_never_run(workspace: Workspace, tiny: Path, tmp_path: Path) -> None:
    config = json.loads((tiny / "config.json").read_text())
    config |= {"model_type": "strange", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    (tiny / "config.json").write_text(json.dumps(config))
    trace = tmp_path / "it ran"
    (tiny / "code.py").write_text(f"open({str(trace)!r}, 'w')\nraise SystemExit")
    assert "program code of its own, which is never run" in refusal(workspace, tiny)
    assert not trace.exists()


def test_subjects_that_are_not_there_or_damaged(workspace: Workspace, tiny: Path) -> None:
    with pytest.raises(AtlasError, match="no model called “nothing”"):
        subject_info(workspace, "nothing")
    with pytest.raises(AtlasError, match="is not the name of a subject"):
        subject_info(workspace, "../x")
    load(workspace, tiny)
    path = workspace.subjects / "tiny-model" / "subject.json"
    stored = json.loads(path.read_text())
    for content in (
        "",
        "[]",
        "{}",
        json.dumps(stored | {"n_layers": "2"}),
        json.dumps(stored | {"extra": 1}),
        json.dumps(stored | {"widths": {}}),
    ):
        path.write_text(content)
        with pytest.raises(AtlasError, match="damaged"):
            subject_info(workspace, "tiny-model")


def test_a_text_with_a_token_that_the_model_lacks_is_refused(workspace: Workspace, tiny: Path) -> None:
    subject = load_subject(workspace, str(tiny), device="cpu")
    subject.tokenizer.add_tokens(["<|new|>"])
    assert len(subject.encode(["fine"])[0]) > 0
    with pytest.raises(AtlasError, match=r"“<\|new\|>”, a token that tiny-model has no embedding for"):
        subject.encode(["fine", "a <|new|> b"])


_ELSEWHERE = """
import sys
from core.subject.load import load_subject
from core.workspace import Workspace
info = load_subject(Workspace.open(sys.argv[1]), "owner/Tiny-1", device="cpu", revision=sys.argv[2] or None).info
sys.stdout.write(" ".join(map(str, (info.slug, info.source, info.revision, info.name_or_path))))
"""


def test_a_hub_model_in_the_cache_loads_offline_and_names_its_commit(workspace: Workspace, tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "hub" / "models--owner--Tiny-1"
    make_tiny_model(home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    for revision in ("", commit):
        done = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE, str(workspace.path), revision], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout == f"tiny-1 hub {commit} owner/Tiny-1", done.stderr


def test_what_pages_read_of_a_subject_needs_no_torch() -> None:
    code = "import sys, core.vocab, core.subject.info; sys.exit(bool({'torch', 'transformers', 'numba'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
