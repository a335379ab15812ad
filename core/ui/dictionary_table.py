"""The dictionaries of the shelf as a table: what each is, what was measured of it, in which order; and as CSV. No Streamlit."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.bases.info import BasisInfo
from core.bases.metric_names import BY_NAME, METRICS
from core.bases.shelf import Shelved, shelved
from core.errors import AtlasError, shown
from core.store.catalog import IndexInfo, indexes
from core.ui import words
from core.workspace import Workspace

MEASURED = ("l0", "explained_variance", "dead", "loss_recovered", "ce_difference", "kl", "mse")
"""Metrics of the table, names of `METRICS`."""
HEADS = {
    "subject": ("Model", "Whose activations it reads"),
    "site": ("Site", "Where it reads: sorts by layer"),
    "name": ("Name", "Click a name for everything that is known of it"),
    "kind": ("Kind", "What made the directions, and what sets how sparse the codes are: α (L1), k, or neither"),
    "units": ("Units", "How many units the dictionary has"),
}
SORTS = (*HEADS, *MEASURED)
SHORT = {"explained_variance": "EV", "loss_recovered": "Loss rec.", "ce_difference": "ΔCE"}
"""Heads of columns that would be too wide; the tooltip has the whole name."""
FAMILIES = {"pca": "PCA", "ica": "ICA", "random": "random", "axes": "neurons", "transcoder": "transcoder"}
RULES = {"relu": "ReLU", "topk": "TopK", "gated": "gated", "jumprelu": "JumpReLU"}
CSV_COLUMNS = (
    *("subject", "site", "head", "name", "family", "rule", "kind", "units", "d_in", "k", "alpha", "mse_reduction", "alpha_sum"),
    *("alpha_mean", "centre", "normalise", "scale", "tied", "seed", "trained_tokens", "weights"),
)


@dataclass(frozen=True)
class Entry:
    """One dictionary. index: of its units, over most tokens, made with these very weights; None while there is none."""

    one: Shelved
    index: IndexInfo | None = None

    @property
    def info(self) -> BasisInfo:
        return self.one.info

    @property
    def key(self) -> str:
        return self.info.key

    @property
    def run(self) -> str:
        """The run that made it, empty for one that was loaded."""
        return str(self.info.recipe.get("run") or "")

    @property
    def current(self) -> bool:
        """Whether something was measured of these very weights."""
        return bool(self.info.metrics) and self.info.metrics.get("weights") == self.one.hash

    @property
    def measured(self) -> bool:
        """Whether everything was measured, with the model's output too."""
        return self.current and bool(self.info.metrics.get("output_contexts"))

    def metric(self, name: str) -> float | None:
        """A number of the metrics, None where there is none or it is undefined."""
        value = self.info.metrics.get(name) if self.current else None
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None

    def why(self, name: str) -> str:
        """Why a metric has no number."""
        if not self.current:
            return "Not measured yet."
        undefined: dict[str, Any] = self.info.metrics.get("undefined") or {}
        return str(undefined.get(name) or "Not measured yet.")


def entries(workspace: Workspace) -> list[Entry]:
    """The dictionaries of the shelf in its order: by model, layer, site and name."""
    found = indexes(workspace)
    return [Entry(one, _indexed(one, found)) for one in shelved(workspace)]


def kind_of(info: BasisInfo) -> str:
    """`tied ReLU`, `JumpReLU`, `PCA`."""
    if info.family in FAMILIES:
        return FAMILIES[info.family]
    return f"tied {RULES[info.rule]}" if info.tied else RULES[info.rule]


def sparsity_of(info: BasisInfo) -> str:
    """What sets how sparse the codes are: `α 0.5`, `k 32`, or nothing."""
    if info.k is not None:
        return f"k {info.k}"
    alpha = info.recipe.get("alpha")
    return f"α {alpha:g}" if isinstance(alpha, int | float) else ""


def label_of(info: BasisInfo) -> str:
    """Kind and sparsity: `tied ReLU, α 0.5`."""
    return ", ".join(part for part in (kind_of(info), sparsity_of(info)) if part)


def place_of(info: BasisInfo) -> str:
    """`attn.3, head 2`."""
    return str(info.site) if info.head is None else f"{info.site}, head {info.head}"


def in_order(found: Sequence[Entry], order: str) -> list[Entry]:
    """Sorted by a word of `SORTS`, a - before it for the largest first; what has no number is last. Raises AtlasError."""
    word = order.removeprefix("-")
    if not word:
        return list(found)
    if word not in SORTS:
        raise AtlasError(f"“{shown(order)}” is not an order: sort by {', '.join(SORTS)}, with - before it for the largest first.")
    if word in MEASURED:
        known = [(value, entry) for entry in found if (value := entry.metric(word)) is not None]
        known.sort(key=lambda pair: pair[0], reverse=order.startswith("-"))
        return [entry for _, entry in known] + [entry for entry in found if entry.metric(word) is None]
    return sorted(found, key=lambda entry: _sort_key(entry, word), reverse=order.startswith("-"))


def head(name: str) -> tuple[str, str]:
    """Label and tooltip of a column: of a metric its formula."""
    if name in HEADS:
        return HEADS[name]
    metric = BY_NAME[name]
    unit = f" In {metric.unit}." if metric.unit else ""
    return SHORT.get(name, metric.label), f"{metric.label}: {metric.formula}{unit}"


def shown_metric(entry: Entry, name: str) -> str:
    value = entry.metric(name)
    if value is None:
        return "–"
    return words.share(value) if BY_NAME[name].unit == "share" else words.number(value)


def to_csv(found: Sequence[Entry]) -> bytes:
    """Everything that is one number or word, of each dictionary, as UTF-8 CSV; undefined numbers are empty."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    names = [metric.name for metric in METRICS if metric.name not in ("density", "encoder_decoder_cosine", "mmcs")]
    writer.writerow([*CSV_COLUMNS, *names, "measured_tokens"])
    for entry in found:
        info, recipe = entry.info, entry.info.recipe
        row: list[Any] = [info.subject, str(info.site), info.head, info.name, info.family, info.rule, kind_of(info), info.units, info.d_in]
        row += [info.k, recipe.get("alpha"), recipe.get("mse_reduction"), recipe.get("alpha_sum"), recipe.get("alpha_mean")]
        row += [info.prepare.centre, info.prepare.normalise, info.prepare.scale, info.tied, recipe.get("seed"), recipe.get("tokens")]
        row += [entry.one.hash, *(entry.metric(name) for name in names), entry.metric("tokens")]
        writer.writerow(["" if value is None else value for value in row])
    return out.getvalue().encode()


def _indexed(one: Shelved, found: Sequence[IndexInfo]) -> IndexInfo | None:
    info = one.info
    return next(
        (
            index
            for index in found
            if (index.slug, index.basis) == (info.subject, info.name)
            and info.site in index.published
            and index.dictionary(info.site).get("weights_sha256") == one.hash
        ),
        None,
    )


def _sort_key(entry: Entry, word: str) -> tuple[Any, ...]:
    info = entry.info
    if word == "site":
        return info.site.layer, info.site.kind, info.name
    if word == "units":
        return info.units, info.name
    if word == "kind":
        return kind_of(info), info.k or 0, float(info.recipe.get("alpha") or 0)
    return str(getattr(info, word)), info.site.layer, info.name
