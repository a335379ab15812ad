"""OpenAI's neuron records and scored explanations, read in both dialects: that of 2023, and Transformer Debugger's with its older names."""

import re
from dataclasses import replace
from typing import Any

import numpy as np

from core.findings.exchange.foreign import (
    INDEX,
    LAYERS,
    Floats,
    Gathering,
    Said,
    Simulated,
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
from core.index.bands import QUANTILES
from core.units import NEURONS, Site, slugify

_OLD = {
    "idx": "neuron_index",
    "layer": "layer_index",
    "unit": "activation_scale",
    "sequence_simulation": "simulation",
    "explanation_or_baseline": "explanation",
    "scored_explanation_or_baseline_list": "scored_explanations",
}
"""What fields were or are also called."""
_SCALES = {"simulated_normalized_activations": "tenths", "neuron_activations": "activation"}
_BOUNDS = [0.0, *(high for _, high in QUANTILES.values())]
_OURS = re.compile(r"(?:.*/)?([^/]+)/(mlp|resid|attn)/([^/]+)/(?:neurons|explanations)/\d+/\d+\.jsonl?")
"""How our own export lays files out, which says what the format does not."""
_MOMENTS = ("mean", "variance", "skewness", "kurtosis")
_TITLE = "OpenAI's neuron records"


class OpenAI:
    """Takes documents in, one by one."""

    title = _TITLE
    word = "openai"

    def __init__(self, gathering: Gathering) -> None:
        self.gathering = gathering
        self.model = ""
        chance = "drawn by chance"
        self.bands = {"top": "the strongest", "random": chance} | dict.fromkeys(QUANTILES, f"{chance} between quantiles")
        """What the bands of records hold."""

    @staticmethod
    def knows(document: dict[str, Any]) -> bool:
        """Whether an object is of this format."""
        return "neuron_id" in document

    def take(self, document: dict[str, Any], name: str) -> None:
        """A `NeuronRecord` or `NeuronSimulationResults`. name: of the file. Raises Refused."""
        fields = _named(document)
        number_of = _named(table(fields["neuron_id"]))
        layer = whole(number_of.get("layer_index"), LAYERS, "A layer")
        index = whole(number_of.get("neuron_index"), INDEX, "A neuron's number")
        if not self.gathering.wants(index):
            return
        ours = _OURS.fullmatch(name)
        kind, basis = (ours[2], slugify(ours[3])) if ours else ("mlp", NEURONS)
        if ours:
            self.model = self.model or ours[1]
        place = f"{kind}.{layer}/{basis}"
        self.gathering.places[place] = (Site.parse(f"{kind}.{layer}"), basis)
        if "scored_explanations" in fields:
            self._explained(self.gathering.unit(place, index), fields)
        else:
            self._record(self.gathering.describe(place, index), fields)

    def finish(self) -> None:
        """Say which of the simulated texts are among the unit's strongest, now that all records are known."""
        for unit in (unit for mine in self.gathering.units.values() for unit in mine.values()):
            strongest = {one.rank for one in unit.bands.get("top", [])}
            if strongest:
                unit.said = [
                    replace(
                        said,
                        simulations=tuple(replace(one, origin="top" if one.rank in strongest else "random") for one in said.simulations),
                    )
                    for said in unit.said
                ]

    def _record(self, unit: Unit, fields: dict[str, Any]) -> None:
        unit.stats |= {name: number(fields.get(name)) for name in _MOMENTS}
        self._band(unit, "top", fields.get("most_positive_activation_records"))
        self._band(unit, "random", fields.get("random_sample"))
        if tops := unit.bands.get("top"):
            unit.stats["max"] = max(float(one.activations.max()) for one in tops)
        quantiles = listed(fields.get("random_sample_by_quantile"))
        bounds = numbers(listed(fields.get("quantile_boundaries")), 1000)
        if len(quantiles) == len(QUANTILES) and np.allclose(bounds[: len(_BOUNDS)], _BOUNDS) and len(bounds) == len(_BOUNDS):
            for band, records in zip(QUANTILES, quantiles, strict=True):
                self._band(unit, band, records)
        elif any(quantiles):
            self.gathering.left_out["records by quantile, whose bounds are others than here"] += 1

    def _band(self, unit: Unit, band: str, records: Any) -> None:
        for one in listed(records):
            fields = table(one)
            self.gathering.record(unit, band, self.gathering.context(texts(fields.get("tokens"))), activations(fields.get("activations")))

    def _explained(self, unit: Unit, fields: dict[str, Any]) -> None:
        for one in listed(fields["scored_explanations"]):
            explained = _named(table(one))
            scored = _named(table(explained.get("scored_simulation") or {}))
            sequences = [_named(table(each)) for each in listed(scored.get("scored_sequence_simulations"))]
            made = [self._simulated(each, at, len(sequences)) for at, each in enumerate(sequences)]
            self.gathering.say(
                unit,
                Said(
                    text=text(explained.get("explanation")),
                    author="",
                    kind="",
                    facts={},
                    rho=number(scored.get("ev_correlation_score")),
                    r2=number(scored.get("rsquared_score")),
                    explained=number(scored.get("absolute_dev_explained_score")),
                    scored=bool(scored),
                    simulations=tuple(self._once([each for each in made if each is not None])),
                ),
            )

    def _once(self, made: list[Simulated]) -> list[Simulated]:
        """The first simulation of each text."""
        found = {one.rank: one for one in reversed(made)}
        if len(found) < len(made):
            self.gathering.left_out["further simulations of a text"] += len(made) - len(found)
        return [one for one in made if found[one.rank] is one]

    def _simulated(self, sequence: dict[str, Any], at: int, count: int) -> Simulated | None:
        fields = _named(table(sequence.get("simulation")))
        scale = _SCALES.get(str(fields.get("activation_scale")))
        if scale is None:
            self.gathering.left_out["simulations on a scale that is not known here"] += 1
            return None
        if fields.get("uncalibrated_simulation") is not None:
            self.gathering.left_out["what was simulated before calibration"] += 1
        rank = self.gathering.context(texts(fields.get("tokens")))
        true, values = activations(sequence.get("true_activations")), numbers(fields.get("expected_activations"))
        if not len(true) == len(values) == len(self.gathering.contexts[rank]):
            self.gathering.left_out["simulations that are not as long as their text"] += 1
            return None
        if np.isnan(values).any():
            values = np.full(len(values), np.nan, np.float32)
        # Theirs come in this order: half from the strongest records, then half from those drawn at random.
        origin = "top" if 2 * at < count else "random"
        return Simulated(rank, origin, true, values, self._probabilities(fields, len(true)), scale)

    def _probabilities(self, fields: dict[str, Any], size: int) -> Floats | None:
        """float32 [tokens, 11] where every distribution is over 0 to 10, else None."""
        rows = [numbers(one, 1000) for one in listed(fields.get("distribution_values"))]
        shares = [numbers(one, 1000) for one in listed(fields.get("distribution_probabilities"))]
        if not len(rows) == len(shares) == size:
            return None
        found = np.zeros((size, 11), np.float32)
        for row, values, held in zip(found, rows, shares, strict=True):
            digits = np.isin(values, range(11)).all() and len(np.unique(values)) == len(values) == len(held)
            if not digits or np.isnan(held).any() or (held < 0).any() or (held > 1.001).any():
                return None
            row[values.astype(int)] = held
        return found


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    """An object by the names of 2023."""
    return {_OLD.get(name, name): value for name, value in fields.items()}
