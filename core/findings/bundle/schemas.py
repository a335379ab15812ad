"""The tables of a bundle: the columns of docs/formats.md that it carries, with their types, and what each may hold."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

I16, I32, I64, F32, F64, TEXT = pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()


@dataclass(frozen=True)
class Form:
    """One table. undefined: number columns in which NaN says that there is none. nulls: columns that may have none at all.

    unbounded: number columns that may be −∞. optional: columns that not every file of the kind has. key: the column by which its rows
    ascend, each once.
    """

    columns: dict[str, Any]
    undefined: frozenset[str] = frozenset()
    unbounded: frozenset[str] = frozenset()
    nulls: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    key: str | None = None

    def schema(self, names: list[str]) -> Any:
        """The schema of a table that has the columns `names` of these, in the order of the form."""
        return pa.schema([(name, kind) for name, kind in self.columns.items() if name in names])


def _same(names: tuple[str, ...], kind: Any) -> dict[str, Any]:
    return dict.fromkeys(names, kind)


_MOMENTS = ("mean", "variance", "skewness", "kurtosis", "min", "max", "p50", "p90", "p99", "p999")
_WEIGHTS = ("bias", "threshold", "encoder_decoder_cosine")
_FIGURES = ("rho", "low", "high", "r2", "explained", "record_rho")
_LISTS = ("raised", "lowered", "before", "after")
_SUMS = ("change", "direct", "before", "after")
_LISTED = {f"{name}_tokens": pa.list_(I32) for name in _LISTS} | {
    f"{name}_{what}": pa.list_(F32) for name in _LISTS for what in ("original", "ablated")
}

UNITS = Form(
    {"unit": I32, "tokens": I64, "nonzero": I64, **_same(_MOMENTS, F32), "bins": pa.list_(I16), "counts": pa.list_(I64)}
    | {"peak_token": I32, "peak_context": I32, "peak_position": I16, "snippet": TEXT, "top_tokens": pa.list_(I32)}
    | {"top_token_means": pa.list_(F32), "top_token_counts": pa.list_(I32), "top_token_totals": pa.list_(I32), "sums": pa.list_(F64)},
    undefined=frozenset(_MOMENTS),
    nulls=frozenset(["snippet"]),
    key="unit",
)
RECORDS = Form(
    {"unit": I32, "band": TEXT, "contexts": pa.list_(I32), "values": pa.list_(F32), "positions": pa.list_(I16), "scales": pa.list_(F32)}
    | {"activations": pa.binary(), "sampled": I32, "shown": I32}
)
POSITIONS = Form(
    {"unit": I32, "kind": TEXT, "contexts": pa.list_(I32), "positions": pa.list_(I16), "values": pa.list_(F32), "weights": pa.list_(F32)}
)
EFFECTS = Form(
    {"unit": I32, "raised": pa.list_(I32), "raised_logits": pa.list_(F32), "lowered": pa.list_(I32), "lowered_logits": pa.list_(F32)}
    | {"similar": pa.list_(TEXT), "similar_cosines": pa.list_(F32), **_same(_WEIGHTS, F32)},
    undefined=frozenset(_WEIGHTS),
    optional=frozenset(_WEIGHTS),
    key="unit",
)
CODES = Form(
    {"unit": I32, "contexts": pa.list_(I32), "positions": pa.list_(I16), "values": pa.list_(F32), "coactive": pa.list_(I32)}
    | {"coactive_counts": pa.list_(I64), "coactive_totals": pa.list_(I64)},
    key="unit",
)
CONTEXTS = Form({"rank": I32, "document": I32, "start": I32, "tokens": pa.list_(I32), "key": pa.uint64(), "text": TEXT}, key="rank")
DOCUMENTS = Form({"document": I32, "id": TEXT, "source": TEXT}, key="document")
EXPLANATIONS = Form(
    {"explanation": TEXT, "unit": TEXT, "index": TEXT, "setting": TEXT, "step": I16, "explainer": TEXT, "author": TEXT, "text": TEXT}
    | {"pattern": TEXT, "recipe": TEXT, "train": pa.list_(I32), "failed": TEXT, "seconds": F64, "created": F64}
)
SCORES = Form(
    {"explanation": TEXT, "role": TEXT, "kind": TEXT, "split": TEXT, "simulator": TEXT, "calibration": TEXT, **_same(_FIGURES, F64)}
    | {"n_tokens": I32, "n_records": I32, "coverage": F64, "reason": TEXT, "contexts": pa.list_(I32), "said": TEXT, "said_of": TEXT}
    | {"recipe": TEXT},
    undefined=frozenset([*_FIGURES, "coverage"]),
    unbounded=frozenset(["r2", "explained"]),  # where a unit that was silent throughout was predicted to fire
)
SIMULATIONS = Form(
    {"explanation": TEXT, "role": TEXT, "split": TEXT, "origin": TEXT, "context": I32, "activations": pa.list_(F32)}
    | {"simulated": pa.list_(F32), "probabilities": pa.list_(F32), "scale": TEXT, "failed": TEXT},
    undefined=frozenset(["simulated", "probabilities"]),
    nulls=frozenset(["probabilities"]),
)
ABLATED = Form(
    {"text": I16, "position": I16, "token": I32, "following": I32, "activations": pa.list_(F32), "fires": pa.bool_(), "kl": F64}
    | {"log_p": F32, "change": F32, **_LISTED},
    undefined=frozenset(["log_p", "change"]),
)
VOCABULARY = Form({"token": I32, **_same(_SUMS, F32)}, undefined=frozenset(_SUMS), key="token")
TOKENS = Form({"token": I32, "bytes": pa.binary(), "special": pa.bool_()}, key="token")
FINDINGS = Form(
    {"version": TEXT, "entry": TEXT, "parents": TEXT, "kind": TEXT, "unit": TEXT, "author": TEXT, "created": F64, "removed": I32}
    | {"restores": TEXT, "body": TEXT}
)

INDEX = {"units": UNITS, "records": RECORDS, "positions": POSITIONS}
LATE = {"effects": EFFECTS, "codes": CODES}
EXCERPT = {"contexts": CONTEXTS, "documents": DOCUMENTS}
PART = {"explanations": EXPLANATIONS, "scores": SCORES, "simulations": SIMULATIONS}
EFFECT_RUN = {"positions": ABLATED, "vocabulary": VOCABULARY}
