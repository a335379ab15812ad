"""Files as other tools write them become dictionaries with the codes that a plain loop gives, at the site that the file means."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bases.dictionary import Dictionary
from core.bases.formats.bring import detect
from core.bases.formats.found import Found
from core.bases.formats.hooks import hook_of_site, is_model, site_of_hook, site_of_module
from core.bases.formats.place import READERS, locate
from core.bases.formats.saelens import export
from core.bases.info import Prepare
from core.errors import AtlasError
from core.subject.info import SubjectInfo
from core.units import Site
from tests.published import (
    arrays,
    dictionary,
    random,
    slow_codes,
    write_dictionary_learning,
    write_gemma_scope,
    write_saelens,
    write_sparsify,
)

D, UNITS = 10, 24
GIVEN = arrays(D, UNITS, seed=1)
X = (np.random.default_rng(2).standard_normal((6, D)) * 1.5 + 0.3).astype(np.float32)


def read(folder: Path, file: str | None = None) -> Found:
    place, weights = locate(folder, file)
    return READERS[weights](place)


def codes(found: Found) -> Any:
    return dictionary(found).encode(torch.from_numpy(X)).numpy()


@pytest.mark.parametrize(
    ("architecture", "rule", "config"),
    [
        ("standard", "relu", {}),
        ("standard", "relu", {"apply_b_dec_to_input": False}),
        ("topk", "topk", {"k": 4}),
        ("gated", "gated", {}),
        ("jumprelu", "jumprelu", {}),
        ("transcoder", "relu", {"apply_b_dec_to_input": False}),
        ("jumprelu_skip_transcoder", "jumprelu", {"apply_b_dec_to_input": False}),
    ],
)
def test_each_rule_of_sae_lens_gives_the_codes_of_a_plain_loop(
    tmp_path: Path, architecture: str, rule: str, config: dict[str, Any]
) -> None:
    found = read(write_saelens(tmp_path / "a", GIVEN, architecture, **config))
    subtract = config.get("apply_b_dec_to_input", True)
    np.testing.assert_allclose(codes(found), slow_codes(rule, GIVEN, X, config.get("k", 0), subtract), rtol=1e-5, atol=1e-5)
    assert (found.rule, found.model, found.site) == (rule, "tiny", Site("resid", 0))
    assert (found.d_out is None) == (not architecture.endswith("transcoder"))
    assert detect(tmp_path / "a") == "saelens"


def test_the_flat_layout_of_before_version_6_means_the_same(tmp_path: Path) -> None:
    old: dict[str, Any] = {
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": 4},
        "normalize_activations": False,
        "hook_point_head_index": None,
    }
    found = read(write_saelens(tmp_path / "a", GIVEN, flat=True, metadata={"hook_name": "blocks.8.hook_resid_pre"}, **old))
    np.testing.assert_allclose(codes(found), slow_codes("topk", GIVEN, X, 4), rtol=1e-5, atol=1e-5)
    assert (found.k, found.site, found.subtract_decoder_bias) == (4, Site("resid", 7), True)


def test_the_others_give_the_codes_of_a_plain_loop(tmp_path: Path) -> None:
    topk, jump = slow_codes("topk", GIVEN, X, 3), slow_codes("jumprelu", GIVEN, X, subtract=False)
    learned = read(write_dictionary_learning(tmp_path / "a", GIVEN))
    np.testing.assert_allclose(codes(learned), topk, rtol=1e-5, atol=1e-5)
    sparse = read(write_sparsify(tmp_path / "run" / "gpt_neox.layers.3", GIVEN))
    np.testing.assert_allclose(codes(sparse), topk, rtol=1e-5, atol=1e-5)
    scope = tmp_path / "gemma-scope-9b-it-res" / "layer_20" / "width_16k" / "average_l0_71"
    gemma = read(write_gemma_scope(scope, GIVEN))
    np.testing.assert_allclose(codes(gemma), jump, rtol=1e-5, atol=1e-5)
    assert [found.site for found in (learned, sparse, gemma)] == [Site("resid", 0), Site("resid", 3), Site("resid", 20)]
    assert [found.model for found in (learned, sparse, gemma)] == ["owner/tiny", "owner/tiny", "gemma-2-9b-it"]
    assert gemma.said == {"l0": 71.0}
    assert [detect(path) for path in (tmp_path / "a", tmp_path / "run" / "gpt_neox.layers.3", scope / "params.npz")] == [
        "dictionary_learning",
        "sparsify",
        "gemma_scope",
    ]


def test_arrays_stored_by_columns_and_half_precision_read_right(tmp_path: Path) -> None:
    turned = {name: np.asfortranarray(array) for name, array in GIVEN.items()}
    np.testing.assert_array_equal(
        codes(read(write_gemma_scope(tmp_path / "a", turned))), codes(read(write_gemma_scope(tmp_path / "b", GIVEN)))
    )
    half = {name: array.astype(np.float16) for name, array in GIVEN.items()}
    rounded = {name: array.astype(np.float32) for name, array in half.items()}
    found = read(write_saelens(tmp_path / "c", half, "jumprelu"))  # pyright: ignore[reportArgumentType] - half on purpose
    np.testing.assert_allclose(codes(found), slow_codes("jumprelu", rounded, X), rtol=1e-5, atol=1e-5)


def test_normalising_and_centring_are_taken_over(tmp_path: Path) -> None:
    for given, prepare in (("layer_norm", Prepare("none", "layer_norm")), ("constant_norm_rescale", Prepare("none", "constant_norm"))):
        assert read(write_saelens(tmp_path / given, GIVEN, normalize_activations=given)).prepare == prepare
    old = read(write_saelens(tmp_path / "old", GIVEN, flat=True, normalize_activations=True))
    assert old.prepare == Prepare()
    assert "does not hold the factor" in old.notes[0]
    kwargs = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    assert read(write_saelens(tmp_path / "centred", GIVEN, metadata=kwargs)).centred


def test_what_is_measured_beside_the_file_is_kept(tmp_path: Path) -> None:
    folder = write_dictionary_learning(tmp_path / "a", GIVEN)
    (folder / "eval_results.json").write_text(
        json.dumps({"frac_variance_explained": 0.8, "l0": 31.5, "frac_recovered": True, "x": 1}), "utf8"
    )
    assert read(folder).said == {"explained_variance": 0.8, "l0": 31.5}


def test_our_own_export_comes_back_bit_for_bit(tmp_path: Path) -> None:
    for place, (rule, options) in enumerate([("relu", {"tied": True}), ("topk", {"k": 3, "tied": True}), ("jumprelu", {})]):
        mine = random(rule, place, **options)
        export(mine, tmp_path / str(place))
        back = read(tmp_path / str(place))
        assert (back.rule, back.k, back.tied) == (mine.info.rule, mine.info.k, mine.info.tied)
        assert back.tensors.keys() == mine.tensors.keys()
        assert all(torch.equal(back.tensors[name], mine.tensors[name]) for name in mine.tensors)
        assert (back.site, back.model, back.about["context"]) == (mine.info.site, "tiny", 64)


def test_a_centred_dictionary_comes_back_with_its_reconstructions(tmp_path: Path) -> None:
    mine = random("relu", 1, tied=True, prepare=Prepare("per_token", "none", 0.7))
    (note,) = export(mine, tmp_path / "a")
    assert "lack that mean" in note
    back = dictionary(read(tmp_path / "a"))
    x = torch.randn(9, mine.info.d_in) + 2
    for ours, theirs in zip(mine.reconstruct(x), back.reconstruct(x), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_an_export_does_not_say_where_on_this_machine_the_text_lies(tmp_path: Path) -> None:
    mine = random("relu", 1, tied=True)
    recipe = {"corpus": {"source": str(tmp_path / "private" / "notes.txt"), "length": 64, "bos": True}}
    export(Dictionary(replace(mine.info, recipe=recipe), mine.tensors), tmp_path / "a")
    written = (tmp_path / "a" / "cfg.json").read_text("utf8")
    assert "private" not in written
    assert json.loads(written)["metadata"]["dataset_path"] == "notes.txt"


def test_an_export_never_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep", "utf8")
    with pytest.raises(AtlasError, match="not an empty folder"):
        export(random("relu", 0, tied=True), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_hooks_of_other_tools_are_sites_or_refused() -> None:
    meant = {"blocks.3.hook_resid_post": "resid.3", "blocks.3.hook_resid_pre": "resid.2", "blocks.3.mlp.hook_post": "mlp.3"}
    for hook, site in (meant | {"blocks.3.attn.hook_z": "attn.3"}).items():
        assert str(site_of_hook(hook)) == site
    for path in ("layers.10", "h.10", "gpt_neox.layers.10", "model.layers.10", "transformer.h.10", "model.decoder.layers.10"):
        assert site_of_module(path) == Site("resid", 10)
        assert site_of_module(path, reads_input=True) == Site("resid", 9)
    for hook in ("blocks.0.hook_resid_pre", "blocks.3.hook_mlp_out", "blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_in", "hook_embed"):
        with pytest.raises(AtlasError, match="not a site here"):
            site_of_hook(hook)
    for path in ("layers.10.mlp", "embed_tokens", "model.layers.10.self_attn"):
        with pytest.raises(AtlasError, match="not a site here"):
            site_of_module(path)
    with pytest.raises(AtlasError, match="not a site here"):
        site_of_module("layers.0", reads_input=True)
    for site in (Site("resid", 4), Site("mlp", 4), Site("attn", 4)):
        assert site_of_hook(hook_of_site(site)) == site


def test_one_model_has_many_names() -> None:
    def card(slug: str, name: str) -> SubjectInfo:
        widths: Any = {"mlp": 8, "resid": 8, "attn": 8}
        return SubjectInfo(slug, "hub", None, "llama", 2, 8, widths, 9, 64, None, "t", "w", name)

    pythia = card("pythia-70m-deduped", "EleutherAI/pythia-70m-deduped")
    assert is_model("pythia-70m-deduped", pythia)
    assert is_model("EleutherAI/Pythia-70M-deduped", pythia)
    assert not is_model("pythia-70m", pythia)
    assert not is_model("pythia-160m-deduped", pythia)
    assert is_model("gpt2-small", card("gpt2", "openai-community/gpt2"))
    assert not is_model("gpt2-medium", card("gpt2", "openai-community/gpt2"))
    assert is_model("tiny-stories-1M", card("tinystories-1m", "roneneldan/TinyStories-1M"))


def test_one_of_several_dictionaries_is_chosen_by_its_folder(tmp_path: Path) -> None:
    for layer in (3, 4):
        write_saelens(tmp_path / f"blocks.{layer}" / "v1", GIVEN, metadata={"hook_name": f"blocks.{layer}.hook_resid_post"})
    assert read(tmp_path, "blocks.4").site == Site("resid", 4)
    assert read(tmp_path, "blocks.3/v1/sae_weights.safetensors").site == Site("resid", 3)
    with pytest.raises(AtlasError, match=r"2 dictionaries: say which with --file, such as blocks\.3/v1, blocks\.4/v1"):
        read(tmp_path)
    with pytest.raises(AtlasError, match=r"no dictionary at “blocks\.5”"):
        read(tmp_path, "blocks.5")
