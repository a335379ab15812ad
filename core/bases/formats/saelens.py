"""SAELens: `cfg.json` beside `sae_weights.safetensors`: read in the layout of version 6 or the flat one of before, and written.

Semantics are those of `sae_lens.SAE.load_from_disk` (6.54), whose encode rules are: standard ReLU, top-k, gated, JumpReLU (as which batch
top-k and Matryoshka dictionaries are saved), and transcoders, with a skip connection or with JumpReLU too.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.bases.dictionary import Dictionary
from core.bases.formats.found import Found
from core.bases.formats.hooks import hook_of_site, site_of_hook
from core.bases.formats.ours import KEY, METRICS, Facts, described, digest_of, fold, unfold
from core.bases.formats.safe import Place, check_shapes, load_safetensors, safetensors_shapes, text, whole
from core.bases.info import MAX_UNITS, BasisInfo, Normalise, Prepare, Rule
from core.errors import AtlasError, explain_os_error, shown
from core.workspace import whole_folder, write_json

CONFIG = "cfg.json"
WEIGHTS = "sae_weights.safetensors"

RULES: dict[str, Rule] = {
    "standard": "relu",
    "topk": "topk",
    "gated": "gated",
    "jumprelu": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
_RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}
_NORMALISE: dict[str, Normalise] = {
    "none": "none",
    "expected_average_only_in": "none",
    "layer_norm": "layer_norm",
    "constant_norm_rescale": "constant_norm",
}
_UNFOLDED = (
    "The file asks for activations scaled to an average norm and does not hold the factor: they are read unscaled, as SAELens does when it"
    " loads from disk."
)
_NO_EFFECT = ("scaling_factor", "finetuning_scaling_factor")
"""Left in some files by older versions, with ones in it."""

LAYOUT = "6.0.0"
"""The version whose layout is written: SAELens takes a configuration without a version for the flat one of before 6."""
_NORMALISED = {"none": "none", "layer_norm": "layer_norm", "constant_norm": "constant_norm_rescale"}
_ARCHITECTURES = {"relu": "standard", "topk": "topk", "gated": "gated", "jumprelu": "jumprelu"}


def read(place: Place) -> Found:
    """The dictionary in a folder. Raises AtlasError naming whatever cannot be read."""
    said = flattened(place.config(CONFIG))
    architecture = _architecture(said)
    transcoder = architecture.endswith("transcoder")
    d_in, units = whole(said, "d_in"), whole(said, "d_sae", high=MAX_UNITS)
    d_out = whole(said, "d_out") if transcoder else d_in
    tensors, digest = _weights(place, architecture, d_in, units, d_out)
    k = _k(said, units) if architecture == "topk" else None
    if architecture == "topk" and said.get("rescale_acts_by_decoder_norm"):
        _fold_norms(tensors)
    subtract = _subtracts(said, transcoder)
    normalised = _normalise(said)
    if "skip" in tensors and normalised != "none":
        raise AtlasError(f"A transcoder that skips and normalises its input ({normalised}) is not read here.")
    hook, head = text(said, "hook_name"), said.get("hook_head_index")
    ours = Facts.read(_mapping(said.get(KEY)), digest)
    # An export of ours has the centring in its encoder already; what it lacks is only that the mean comes back after decoding.
    prepare = Prepare(ours.centre, normalised, ours.scale)
    tensors = unfold(tensors, ours, prepare, transcoder)
    tied = not transcoder and torch.equal(tensors["encoder"], tensors["decoder"])
    if tied:
        del tensors["decoder"]
    if not bool(tensors["decoder_bias"].any()):
        del tensors["decoder_bias"]
    unscaled = said.get("normalize_activations") in (True, "expected_average_only_in")
    return Found(
        format="saelens",
        rule=RULES[architecture],
        tensors=tensors,
        d_in=d_in,
        units=units,
        k=k,
        d_out=d_out if transcoder else None,
        writes_to=text(said, "hook_name_out") if transcoder else None,
        tied=tied,
        subtract_decoder_bias=subtract and "decoder_bias" in tensors,
        prepare=prepare,
        family=ours.family if (ours.family == "transcoder") == transcoder else None,
        recipe=ours.recipe,
        weights_hash=ours.weights_hash,
        model=text(said, "model_name"),
        hook=hook,
        site=None if hook is None else site_of_hook(hook),
        head=head if isinstance(head, int) and not isinstance(head, bool) else None,
        centred=_mapping(said.get("model_from_pretrained_kwargs")).get("center_writing_weights") is True,
        said=numbers(ours.metrics),
        about=about(said),
        notes=(*([_UNFOLDED] if unscaled else []), *([ours.note] if ours.note else [])),
    )


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """Both layouts as one table: what version 6 keeps under `metadata` beside the rest, older names by their new ones."""
    own = {_RENAMED.get(name, name): value for name, value in config.items() if value is not None}
    return {**_mapping(config.get("metadata")), **own}


def numbers(given: Mapping[str, Any]) -> dict[str, float]:
    """What a file says was measured, by the names of our metrics."""
    return {
        name: float(given[name])
        for name in METRICS
        if isinstance(given.get(name), int | float) and not isinstance(given[name], bool) and abs(given[name]) < 1e12
    }


def about(said: Mapping[str, Any]) -> dict[str, Any]:
    """On what it was trained, as far as the file says."""
    found: dict[str, Any] = {"context": said.get("context_size"), "bos": said.get("prepend_bos"), "dataset": text(said, "dataset_path")}
    found["version"] = text(said, "sae_lens_training_version") or text(said, "sae_lens_version")
    kinds = {"context": int, "bos": bool, "dataset": str, "version": str}
    return {name: value for name, value in found.items() if type(value) is kinds[name]}


def _architecture(said: Mapping[str, Any]) -> str:
    architecture, activation = str(said.get("architecture") or "standard"), said.get("activation_fn") or "relu"
    if architecture in ("standard", "topk") and activation == "topk":
        return "topk"
    if architecture not in RULES:
        raise AtlasError(f"SAELens's architecture “{shown(architecture)}” is not read here: {', '.join(RULES)} are.")
    if activation != "relu":
        raise AtlasError(f"The activation function “{shown(str(activation))}” is not read here: relu and topk are.")
    return architecture


def _weights(place: Place, architecture: str, d_in: int, units: int, d_out: int) -> tuple[dict[str, Tensor], str]:
    """By our names, and the digest of what was read."""
    path = place.file(WEIGHTS)
    wanted: dict[str, tuple[int, ...]] = {"W_enc": (d_in, units), "W_dec": (units, d_out), "b_dec": (d_out,)}
    names = {"b_enc": "bias", "threshold": "threshold", "b_gate": "gate_bias", "b_mag": "bias", "r_mag": "magnitude"}
    if architecture == "gated":
        wanted |= dict.fromkeys(("b_gate", "b_mag", "r_mag"), (units,))
    else:
        wanted |= {"b_enc": (units,)}
    if "jumprelu" in architecture:
        wanted |= {"threshold": (units,)}
    if "skip" in architecture:
        wanted |= {"W_skip": (d_out, d_in)}
    shapes = safetensors_shapes(path)
    check_shapes(shapes, wanted, f"the {architecture} dictionary in {place.label}")
    if strange := sorted(shapes.keys() - wanted.keys() - {*_NO_EFFECT}):
        raise AtlasError(f"{WEIGHTS} holds “{shown(strange[0])}”, which a {architecture} dictionary has no use for: it is of another kind.")
    loaded = load_safetensors(path, shapes)
    for name in _NO_EFFECT:
        if name in loaded and not bool((loaded.pop(name) == 1).all()):
            raise AtlasError(f"{WEIGHTS} holds “{name}” that was fine-tuned, which is not read here (nor by SAELens 6).")
    digest = digest_of({name: loaded[name] for name in wanted})
    tensors = {names[name]: loaded[name] for name in wanted if name in names}
    if architecture == "gated":
        tensors["magnitude"] = tensors["magnitude"].exp()
    if "W_skip" in loaded:
        tensors["skip"] = loaded["W_skip"]
    encoder = loaded.pop("W_enc").T.contiguous()
    return {**tensors, "encoder": encoder, "decoder": loaded["W_dec"], "decoder_bias": loaded["b_dec"]}, digest


def _k(said: Mapping[str, Any], units: int) -> int:
    given = said if "k" in said else _mapping(said.get("activation_fn_kwargs"))
    return whole(given, "k", high=units)


def _fold_norms(tensors: dict[str, Tensor]) -> None:
    """Codes are chosen and given as if the decoder had unit rows: put the rows' norms into the encoder."""
    norms = tensors["decoder"].norm(dim=-1).clamp_min(1e-8)
    tensors["encoder"] = tensors["encoder"] * norms[:, None]
    tensors["bias"] = tensors["bias"] * norms
    tensors["decoder"] = tensors["decoder"] / norms[:, None]


def _subtracts(said: Mapping[str, Any], transcoder: bool) -> bool:
    given = said.get("apply_b_dec_to_input", not transcoder)
    if not isinstance(given, bool):
        raise AtlasError(f"“apply_b_dec_to_input” should be true or false, not {shown(str(given))}.")
    if given and transcoder:
        raise AtlasError("A transcoder cannot subtract its decoder's bias from its input (“apply_b_dec_to_input”), as this one says.")
    return given


def _normalise(said: Mapping[str, Any]) -> Normalise:
    given = said.get("normalize_activations") or "none"
    if given is True:
        given = "expected_average_only_in"
    if given not in _NORMALISE:
        raise AtlasError(f"Normalising activations by “{shown(str(given))}” is not read here: {', '.join(_NORMALISE)} are.")
    return _NORMALISE[given]


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def export(dictionary: Dictionary, folder: Path, *, model: str | None = None) -> list[str]:
    """Write `cfg.json` and `sae_weights.safetensors` into a new or empty folder.

    model: what SAELens should call the model; None takes what the dictionary's own file said, or the subject's name.
    Returns a sentence for each thing that SAELens will do otherwise. Raises AtlasError for a dictionary that it cannot express.
    """
    info = dictionary.info
    architecture, notes = _expressed(info, "skip" in dictionary.tensors), _notes(info)
    target = folder.expanduser().absolute()
    folded = fold(dictionary)
    config: dict[str, Any] = {
        "architecture": architecture,
        "d_in": info.d_in,
        "d_sae": info.units,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": folded.subtract,
        "normalize_activations": _NORMALISED[info.prepare.normalise],
        "reshape_activations": "hook_z" if info.site.kind == "attn" and info.head is None else "none",
        "metadata": _metadata(info, model, described(info, folded.weights, notes)),
    }
    if info.k is not None:
        config |= {"k": info.k, "rescale_acts_by_decoder_norm": False}
    if info.d_out is not None:
        config["d_out"] = info.d_out
    try:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise AtlasError(f"{target} is there already and not an empty folder: choose another.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(target) as made:
            save_file(folded.weights, made / WEIGHTS)
            write_json(made / CONFIG, config)
    except OSError as error:
        raise explain_os_error(error, f"writing {target}") from None
    return notes


def _expressed(info: BasisInfo, skips: bool) -> str:
    if info.prepare.centre != "none" and info.prepare.normalise == "constant_norm":
        raise AtlasError(f"{info.name} centres activations and then gives them a fixed norm, which SAELens has no way to say.")
    if info.d_out is None:
        if skips:
            raise AtlasError(f"{info.name} has a skip connection, which SAELens knows for transcoders only.")
        return _ARCHITECTURES[info.rule]
    if info.rule not in ("relu", "jumprelu"):
        raise AtlasError(f"{info.name} is a transcoder with the rule {info.rule}, which SAELens does not know.")
    if skips and info.prepare.normalise != "none":
        raise AtlasError(f"{info.name} skips and normalises, and SAELens would skip what is not normalised.")
    return f"{'jumprelu_' if info.rule == 'jumprelu' else ''}{'skip_' if skips else ''}transcoder"


def _notes(info: BasisInfo) -> list[str]:
    if info.prepare.centre == "per_token" and info.prepare.normalise == "none" and info.d_out is None:
        return [
            "The mean of each token's activations is taken off by the encoder's weights, so the codes are the same; SAELens has no way to"
            " add it again, so its reconstructions lack that mean."
        ]
    return []


def _metadata(info: BasisInfo, model: str | None, ours: Mapping[str, Any]) -> dict[str, Any]:
    corpus = _mapping(ours["recipe"].get("corpus"))
    about: Any = info.source.get("about")
    told: dict[str, Any] = dict(about) if isinstance(about, dict) else {}
    return {
        "sae_lens_version": LAYOUT,
        "sae_lens_training_version": None,
        "model_name": model or info.source.get("model") or info.subject,
        "model_class_name": "HookedTransformer",
        "hook_name": hook_of_site(info.site),
        "hook_head_index": info.head,
        "hook_name_out": info.writes_to,
        "context_size": corpus.get("length", told.get("context")),
        "prepend_bos": corpus.get("bos", told.get("bos")),
        "dataset_path": corpus.get("source", told.get("dataset")),
        KEY: ours,
    }
