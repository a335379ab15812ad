"""Neuronpedia's data: lines of its bulk files, the answer of its interface for one feature, and SAEDashboard's batches."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import AtlasError
from core.findings.bundle.archive import Refused
from core.findings.exchange.foreign import (
    INDEX,
    LAYERS,
    WORDS,
    Gathering,
    Said,
    Unit,
    activations,
    listed,
    number,
    numbers,
    table,
    text,
    texts,
    whole,
)
from core.index.bins import ZERO_BIN, bin_of
from core.units import NEURONS, Site, slugify

INTERVALS = "drawn within intervals of activation"
MISSING_LOGIT = -10_000.0
"""What stands where they have no number."""
_TOP = -1.0
"""The lower bound of their strongest records, which are of no interval."""
_HOOK = re.compile(r"blocks\.(\d{1,4})\.(hook_resid_post|hook_resid_pre|mlp\.hook_post|attn\.hook_z)")
_KINDS = {"hook_resid_post": "resid", "hook_resid_pre": "resid", "mlp.hook_post": "mlp", "attn.hook_z": "attn"}
_SOURCE = re.compile(r"(\d{1,4})(?:-(.+))?")
_GUESSES = (("att", "attn"), ("mlp", "mlp"), ("transcoder", "mlp"), ("tc", "mlp"), ("clt", "mlp"))
_OURS = re.compile(r"(mlp|resid|attn)-neurons")
_LEFT_OUT = {
    "neuron_alignment_indices": "which neurons a feature is aligned with",
    "correlated_neurons_indices": "correlated neurons",
    "correlated_features_indices": "correlated features",
    "decoder_weights_dist": "the weights of heads",
    "vector": "vectors",
}
_RENAMED = {
    "bin_min": "binMin",
    "bin_max": "binMax",
    "bin_contains": "binContains",
    "dfa_values": "dfaValues",
}
"""SAEDashboard's names."""


class Neuronpedia:
    """Takes documents in, one by one."""

    title = "Neuronpedia's data"
    word = "neuronpedia"

    def __init__(self, gathering: Gathering) -> None:
        self.gathering = gathering
        self.model = ""
        self.bands = {"top": "the strongest", "random": INTERVALS}
        """What the bands of records hold."""
        self._hooks: dict[str, str] = {}
        self._tokens: dict[str, int] = {}
        """Source -> over how many tokens its features were computed."""
        self._histograms: list[tuple[str, Unit, Mapping[str, Any]]] = []

    @staticmethod
    def knows(document: dict[str, Any]) -> bool:
        """Whether an object is of this format."""
        return "modelId" in document or ("features" in document and "model_id" in document)

    def take(self, document: dict[str, Any], name: str) -> None:
        """A line of their files, a feature, or a batch. Raises Refused."""
        if "features" in document:
            self._batch(document)
        elif "index" not in document:
            self._about(document)
        else:
            self._row(document)

    def finish(self) -> None:
        """Say where the features were read, and over how many tokens, now that all of it is known."""
        for source in self.gathering.units:
            self.gathering.places[source] = self._place(source)
        for source, unit, row in self._histograms:
            _count(unit, row, self._tokens.get(source, 0))
            if math.isnan(unit.stats["max"]) and (tops := unit.bands.get("top")):
                unit.stats["max"] = max(float(one.activations.max()) for one in tops)

    def _batch(self, document: dict[str, Any]) -> None:
        layer, suffix = whole(document.get("layer"), LAYERS, "A layer"), text(document.get("sae_id_suffix"), 200)
        source = f"{layer}-{text(document.get('sae_set'), 200) or 'sae'}{f'__{suffix}' if suffix else ''}"
        for each in listed(document["features"]):
            row = table(each)
            prompts, size = (row.get(name) for name in ("n_prompts_total", "n_tokens_in_prompt"))
            records = [{_RENAMED.get(name, name): value for name, value in table(one).items()} for one in listed(row.get("activations"))]
            common = {"modelId": document["model_id"], "layer": source, "index": row.get("feature_index")}
            self._row({**row, **common, "activations": records, "source": {"num_prompts": prompts, "num_tokens_in_prompt": size}})

    def _about(self, row: Mapping[str, Any]) -> None:
        """What is said of a source."""
        source, prompts, size = text(row.get("id"), 300), row.get("num_prompts"), row.get("num_tokens_in_prompt")
        if source and prompts is not None and size is not None:
            self._tokens[source] = whole(prompts, 1 << 32, "The number of prompts") * whole(size, 1 << 20, "The length of prompts")
        if source and (hook := text(row.get("hookName"), 200)):
            self._hooks[source] = hook

    def _row(self, row: Mapping[str, Any]) -> None:
        model, source = text(row["modelId"], 200), text(row.get("layer"), 300)
        index = whole(row.get("index"), INDEX, "A feature's number")
        if self.model not in ("", model):
            raise Refused("The file is of several models: import those of one model at a time.")
        if _SOURCE.fullmatch(source) is None:
            raise Refused("A feature in the file does not say of which layer it is.")
        self.model = model
        if not self.gathering.wants(index):
            return
        if "description" in row:
            self._explanation(self.gathering.unit(source, index), row)
        elif "tokens" in row:
            self._activation(self.gathering.unit(source, index), row)
        else:
            self._feature(source, self.gathering.describe(source, index), index, row)

    def _feature(self, source: str, unit: Unit, index: int, row: Mapping[str, Any]) -> None:
        unit.stats["max"] = number(row.get("maxActApprox"))
        if hook := text(row.get("hookName"), 200):
            self._hooks.setdefault(source, hook)
        if isinstance(row.get("source"), dict):
            self._about(
                {"id": source, **{name: table(row["source"]).get(name) for name in ("num_prompts", "num_tokens_in_prompt", "hookName")}}
            )
        unit.raised, unit.lowered = (self._logits(row, name) for name in ("pos", "neg"))
        near, cosines = listed(row.get("topkCosSimIndices")), numbers(listed(row.get("topkCosSimValues")))
        if len(near) == len(cosines):
            pairs = [(whole(one, INDEX, "A feature's number"), float(cosine)) for one, cosine in zip(near, cosines, strict=True)]
            unit.similar = [(one, cosine) for one, cosine in pairs if one != index and not math.isnan(cosine)][:100]
        self._histograms.append((source, unit, row))
        for name, sentence in _LEFT_OUT.items():
            if row.get(name):
                self.gathering.left_out[sentence] += 1
        for one in listed(row.get("activations")):
            self._activation(unit, table(one))
        for one in listed(row.get("explanations")):
            self._explanation(unit, table(one))

    def _logits(self, row: Mapping[str, Any], which: str) -> list[tuple[int, float]]:
        words, values = texts(listed(row.get(f"{which}_str"))), numbers(listed(row.get(f"{which}_values")))
        if len(words) != len(values):
            raise Refused("The tokens of a feature in the file and their logits are not as many.")
        pairs = zip(words, values.tolist(), strict=True)
        return [(self.gathering.word(word), value) for word, value in pairs if value != MISSING_LOGIT and not math.isnan(value)][:100]

    def _activation(self, unit: Unit, row: Mapping[str, Any]) -> None:
        source = text(row.get("dataSource"), 1000)
        low = number(row.get("binMin"))
        band = "bottom" if source == "bottom" else "top" if low == _TOP or math.isnan(low) or source == "top" else "random"
        document = "" if source in ("top", "bottom") else source
        rank = self.gathering.context(texts(row.get("tokens")), document)
        self.gathering.record(unit, band, rank, activations(row.get("values")))
        if row.get("dfaValues"):
            self.gathering.left_out["direct feature attribution"] += 1

    def _explanation(self, unit: Unit, row: Mapping[str, Any]) -> None:
        words = text(row.get("description")).strip()
        if not words:
            return
        facts: dict[str, Any] = {}
        if note := text(row.get("notes"), WORDS):
            facts["notes"] = note
        if scores := [_score(table(one)) for one in listed(row.get("scores"))[:100]]:
            facts["scores"] = scores
        author = text(row.get("explanationModelName"), 200) or _author(row)
        self.gathering.say(unit, Said(words, author, text(row.get("typeName"), 200), facts))

    def _place(self, source: str) -> tuple[Site, str]:
        match = _SOURCE.fullmatch(source)
        assert match is not None  # looked at when its first row was read
        layer, name = int(match[1]), match[2] or ""
        if not name:
            return Site("mlp", layer), NEURONS
        basis = NEURONS if _OURS.fullmatch(name) else slugify(name)
        hook = _HOOK.fullmatch(self._hooks.get(source, ""))
        if hook is not None and not (hook[2] == "hook_resid_pre" and hook[1] == "0"):
            return Site.parse(f"{_KINDS[hook[2]]}.{int(hook[1]) - (hook[2] == 'hook_resid_pre')}"), basis
        kind = next((kind for word, kind in _GUESSES if word in name.lower()), "resid")
        told = self._hooks.get(source)
        self.gathering.left_out[
            f"where {source} was read: {f'“{told}” is no site here' if told else 'the file does not say'}; it is shown as {kind}.{layer}"
        ] = 1
        try:
            return Site.parse(f"{kind}.{layer}"), basis
        except AtlasError as error:
            raise Refused(str(error)) from None


def _author(row: Mapping[str, Any]) -> str:
    author = row.get("author")
    name = author.get("name") if isinstance(author, dict) else None
    return text(name, 200) or text(row.get("authorId"), 200)


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    """A score by its own name: none of ours."""
    value = number(row.get("value"))
    said = {"kind": text(row.get("explanationScoreTypeName"), 200), "by": text(row.get("explanationScoreModelName"), 200)}
    return {**said, "value": None if math.isnan(value) else value}


def _count(unit: Unit, row: Mapping[str, Any], tokens: int) -> None:
    """The unit's histogram in our bins, each of their bars in the bin of its middle; nothing where they have no counts.

    tokens: over how many it is, 0 where that is not said; it follows then from the share that is not zero.
    """
    middles, heights = (numbers(listed(row.get(f"freq_hist_data_bar_{what}"))) for what in ("values", "heights"))
    share = number(row.get("frac_nonzero"))
    if len(middles) != len(heights) or not len(heights) or np.isnan(middles).any() or np.isnan(heights).any():
        return
    counts = np.rint(heights).astype(np.int64)
    active = int(counts.sum())
    if (counts < 0).any() or np.abs(heights - counts).max() > 1e-3 or not 0 < active < 1 << 40 or (middles <= 0).any():
        return
    total = tokens or (round(active / share) if 0 < share <= 1 else 0)
    if total < active:
        return
    unit.tokens, unit.nonzero = total, active
    for place, count in zip(bin_of(middles).tolist(), counts.tolist(), strict=True):
        if count:
            unit.bins[place] = unit.bins.get(place, 0) + count
    if total > active:
        unit.bins[ZERO_BIN] = total - active
