"""What the Unit page says of a feature beyond what it says of a neuron: its weights, its dictionary, and who is active with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from core.bases import shelf
from core.errors import AtlasError
from core.index.request import MAX_PAIRS
from core.store.features import Feature, load_feature
from core.store.texts import load_vocab
from core.store.token_histogram import TokenHistogram, token_histogram
from core.store.units import UnitView
from core.ui import nav
from core.ui.bars import Line, Table
from core.ui.unit_tables import SHOWN, file_name, number, percent, significant, token_name
from core.workspace import Workspace

_FAMILIES = {"sae": "sparse autoencoder", "pca": "PCA", "ica": "ICA", "random": "random directions", "axes": "the site's axes"}
_RULES = {"relu": "ReLU", "topk": "TopK", "gated": "gated", "jumprelu": "JumpReLU"}
_S = "s is the token's activation as the dictionary prepares it, eⱼ the encoder's row"
_BIASES = {
    "relu": f"bⱼ in cⱼ = ReLU(eⱼ · s + bⱼ); {_S}.",
    "topk": f"bⱼ in cⱼ = ReLU(eⱼ · s + bⱼ), kept if it is among the k largest of the token; {_S}.",
    "gated": f"bⱼ in cⱼ = 1[eⱼ · s + bⱼ′ > 0] · ReLU(rⱼ eⱼ · s + bⱼ), the bias of the magnitude; {_S}.",
    "jumprelu": f"bⱼ in zⱼ = eⱼ · s + bⱼ; cⱼ = zⱼ where zⱼ > θⱼ, else 0; {_S}.",
}
_THRESHOLD = "θⱼ: cⱼ = zⱼ where zⱼ = eⱼ · s + bⱼ exceeds θⱼ, else 0."
_COSINE = "eⱼ · dⱼ / (‖eⱼ‖ ‖dⱼ‖): whether the feature writes (decoder's row dⱼ) what it reads (encoder's row eⱼ). 1 when they are tied."
COACTIVE_HELP = (
    "Features that are active on the same tokens, counted over the whole text. Bar and number: the Jaccard index "
    "n₁₂ / (n₁ + n₂ − n₁₂), the tokens with both as a share of those with either. Beside it n₁₂, and its share of this feature's tokens."
)


@dataclass(frozen=True)
class FeatureData:
    """A feature, ready to be shown. histogram: None where not every activation is kept; texts: of its tokens, in its order.

    recipe: how the dictionary was made, empty when it is no longer on the shelf.
    """

    feature: Feature
    histogram: TokenHistogram | None
    texts: list[str]
    recipe: Mapping[str, Any]


def feature_data(workspace: Workspace, view: UnitView) -> FeatureData | None:
    """None for a neuron. Raises AtlasError."""
    feature = load_feature(workspace, view)
    if feature is None:
        return None
    counted = token_histogram(feature.tokens, feature.values) if feature.complete else None
    vocab = load_vocab(workspace, view.name.subject)
    texts = [] if counted is None else vocab.pieces(counted.tokens.tolist())
    return FeatureData(feature, counted, texts, _recipe(workspace, view, feature))


def _recipe(workspace: Workspace, view: UnitView, feature: Feature) -> Mapping[str, Any]:
    try:
        one = shelf.find(workspace, view.name.subject, view.name.site, view.name.basis)
    except AtlasError:
        one = None  # taken off the shelf since, or never on this one: what was indexed stays readable
    if one is not None and one.hash == feature.dictionary.get("weights_sha256"):
        return {**one.info.recipe, **one.info.source}
    brought: Mapping[str, Mapping[str, Any]] = view.index.manifest.get("made") or {}
    return brought.get(str(view.name.site), {})


def weights(feature: Feature) -> list[tuple[str, str, str]]:
    """Figures of the feature's own weights: (value, label, formula)."""
    found: list[tuple[str, str, str]] = []
    if feature.bias is not None:
        found.append((significant(feature.bias), "bias", _BIASES[str(feature.dictionary["rule"])]))
    if feature.threshold is not None:
        found.append((significant(feature.threshold), "threshold", _THRESHOLD))
    if feature.encoder_decoder_cosine is not None:
        found.append((number(feature.encoder_decoder_cosine, 1.0), "encoder–decoder cosine", _COSINE))
    return found


def coactive_table(view: UnitView, feature: Feature) -> Table:
    """Features that are active on the same tokens, as links."""
    title, note = "Active together", "Jaccard index · tokens with both"
    if not feature.complete or not feature.coactive:
        return Table(title, note=note, help=COACTIVE_HELP, empty=_alone(view, feature))
    own = len(feature.values)
    largest = feature.coactive[0].jaccard
    lines = [
        Line(
            name=f"{each.name.site} / {each.name.index}",
            value=f"{each.jaccard:.3f}",
            share=each.jaccard / largest,
            hue="m",
            count=f"{each.count:,} · {percent(each.count / own)}",
            hover=f"{each.count:,} of this feature's {own:,} tokens and of that one's {each.total:,} · Jaccard index {each.jaccard:.4g}",
            unit=str(each.name),
            address=nav.unit_address(each.name),
            compare=nav.compare_address(view.name, each.name),
        )
        for each in feature.coactive[:SHOWN]
    ]
    csv = [
        ("unit", "tokens with both", "its tokens", "share of this feature's tokens", "jaccard index"),
        *((str(each.name), each.count, each.total, each.count / own, each.jaccard) for each in feature.coactive),
    ]
    return Table(title, note=note, help=COACTIVE_HELP, columns=[lines], csv=csv, file=file_name(view, "active-together"))


def _alone(view: UnitView, feature: Feature) -> str:
    if not feature.complete:
        return not_kept(view)
    if len(feature.values) and view.index.units_at(view.name.site) > MAX_PAIRS:
        return f"Not counted: a dictionary of more than {MAX_PAIRS:,} units has too many pairs."
    return "No other feature is active on the same tokens."


def dictionary_table(view: UnitView, data: FeatureData) -> Table:
    """By which dictionary the feature is read."""
    facts = dictionary_facts(data)
    return Table(
        title="Dictionary", note=view.name.basis, facts=facts, csv=[("property", "value"), *facts], file=file_name(view, "dictionary")
    )


def dictionary_facts(data: FeatureData) -> list[tuple[str, str]]:
    """What made the features and how codes follow, in words."""
    said, recipe = data.feature.dictionary, data.recipe
    units, reads = int(said["units"]), int(said["d_in"])
    prepare: Mapping[str, Any] = said.get("prepare") or {}
    ways = {"per_token": "per token"}.get(str(prepare.get("centre")), ""), str(prepare.get("normalise", "none")).replace("_", " ")
    facts = [
        ("made by", _FAMILIES.get(str(said["family"]), str(said["family"]))),
        ("rule", f"{_RULES.get(str(said['rule']), str(said['rule']))}{', tied' if said.get('tied') else ''}"),
        ("units", f"{units:,} over {reads:,}" if reads else f"{units:,}"),
    ]
    if said.get("k") is not None:
        facts.append(("k", f"{int(said['k']):,} a token"))
    if (alpha := recipe.get("alpha")) is not None:
        facts.append(("α", f"{alpha:g}"))
        facts.append(("beside error", {"sum": "summed over d", "mean": "averaged over d"}.get(str(recipe.get("mse_reduction")), "–")))
    if said.get("head") is not None:
        facts.append(("head", str(said["head"])))
    facts.append(("centred", ways[0] or "no"))
    if ways[1] != "none":
        facts.append(("normalised", ways[1]))
    if float(prepare.get("scale", 1.0)) != 1.0:
        facts.append(("scaled by", significant(float(prepare["scale"]))))
    return [*facts, ("weights", str(said["weights_sha256"])[:8])]


def token_lines(data: FeatureData, colours: Sequence[str]) -> list[Line]:
    """The key of the token histogram: the tracked tokens and all others, each with its count and share. colours: theirs, in order."""
    counted = data.histogram
    if counted is None or not len(counted.tokens):
        return []
    totals = counted.stacked.sum(axis=1).tolist()
    every, largest = sum(totals), max(totals)
    names = [token_name(text) for text in data.texts[: counted.tracked]]
    further = len(counted.tokens) - counted.tracked
    hovers = [f"token {token} · {total:,} of {every:,}" for token, total in zip(counted.tokens.tolist(), totals, strict=False)]
    lines = [
        Line(name, f"{total:,}", total / largest, count=percent(total / every), hover=hover, colour=colour)
        for name, total, hover, colour in zip(names, totals, hovers, colours, strict=False)
    ]
    if further:
        others = f"{further:,} others" if further > 1 else "1 other"
        lines.append(Line(others, f"{totals[-1]:,}", totals[-1] / largest, count=percent(totals[-1] / every), colour=colours[len(names)]))
    return lines


def token_rows(data: FeatureData) -> list[Sequence[str | int | float]]:
    """Every token with its count in every bin, for CSV."""
    counted = data.histogram
    if counted is None:
        return []
    edges = counted.edges.tolist()
    bins = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    rows = zip(counted.tokens.tolist(), data.texts, counted.counts.tolist(), strict=True)
    return [("token", "text", "all", *bins), *((token, text, sum(row), *row) for token, text, row in rows)]


def not_kept(view: UnitView) -> str:
    """Why not every activation of a feature is known."""
    if not view.index.complete:
        return "Counted when the whole text has been read."
    return "Not counted: this basis is not sparse, and only its strongest and sampled activations are kept."
