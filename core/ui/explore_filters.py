"""What Explore is asked to show: read from the address, checked, and turned into a query. No Streamlit."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.errors import AtlasError, shown
from core.store.queries import Span
from core.units import SITE_KINDS

SORTS = ("kurtosis", "density", "max", "unit")
USUAL_SORT = "-kurtosis"
PAGE_ROWS = 50
MAX_TEXT = 200

_NUMBER = r"[+-]?(?:\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(?:[eE][+-]?\d{1,2})?"
_SPAN = re.compile(rf"(?P<low>{_NUMBER})?\s*(?:\.\.|…|–)\s*(?P<high>{_NUMBER})?")
_BOUND = re.compile(rf"(?P<sign>[<>≤≥])=?\s*(?P<bound>{_NUMBER})")
_LAYERS = re.compile(r"\s*(\d{1,4})(?:\s*-\s*(\d{1,4}))?\s*")


@dataclass(frozen=True)
class Filters:
    """All filters and the order. Spans are closed; density is a share in [0, 1]."""

    text: str = ""
    token: str = ""
    kind: str = ""
    layers: tuple[int, ...] | None = None
    density: Span = (None, None)
    kurtosis: Span = (None, None)
    maximum: Span = (None, None)
    sort: str = "kurtosis"
    descending: bool = True

    @classmethod
    def read(cls, given: Mapping[str, str], *, kinds: Sequence[str], n_layers: int) -> "Filters":
        """From an address. kinds: those the index has. Raises AtlasError with one sentence for the first value that is wrong."""
        for name in ("text", "token"):
            if len(given.get(name, "")) > MAX_TEXT:
                raise AtlasError(f"The search has {len(given[name]):,} characters; at most {MAX_TEXT} are taken.")
        kind = given.get("kind", "")
        if kind and kind not in kinds:
            raise AtlasError(
                f"“{shown(kind)}” is not a kind of site in this index: it has {', '.join(k for k in SITE_KINDS if k in kinds)}."
            )
        order = given.get("sort") or USUAL_SORT
        if order.removeprefix("-") not in SORTS:
            raise AtlasError(f"“{shown(order)}” is not an order: sort by {', '.join(SORTS)}, with - before it for the largest first.")
        low, high = parse_span(given.get("density", ""), "density (in %)")
        return cls(
            text=given.get("text", "").strip(),
            token=given.get("token", ""),
            kind=kind,
            layers=parse_layers(given.get("layer", ""), n_layers),
            density=(None if low is None else low / 100, None if high is None else high / 100),
            kurtosis=parse_span(given.get("kurtosis", ""), "kurtosis"),
            maximum=parse_span(given.get("max", ""), "maximum"),
            sort=order.removeprefix("-"),
            descending=order.startswith("-"),
        )

    def query(self) -> dict[str, Any]:
        """The arguments of `core.store.queries.explore`."""
        return {
            "text": self.text or None,
            "token": self.token or None,
            "kinds": [self.kind] if self.kind else None,
            "layers": self.layers,
            "density": self.density,
            "kurtosis": self.kurtosis,
            "maximum": self.maximum,
            "sort": self.sort,
            "descending": self.descending,
        }

    @property
    def narrow(self) -> bool:
        """Whether anything is filtered out."""
        spans = (self.density, self.kurtosis, self.maximum)
        return bool(self.text or self.token or self.kind) or self.layers is not None or any(span != (None, None) for span in spans)

    def flipped(self, key: str) -> str:
        """The `sort` of the address after a click on heading `key`: the other way round, or the usual way for another column."""
        if key == self.sort:
            return key if self.descending else f"-{key}"
        return key if key == "unit" else f"-{key}"


def parse_span(text: str, what: str) -> Span:
    """Read `0.1..2`, `100..`, `..1`, `>100` or `<1`. Empty is no limit. Raises AtlasError."""
    text = text.strip()
    if not text:
        return None, None
    if (match := _BOUND.fullmatch(text)) is not None:
        bound = float(match["bound"])
        return (bound, None) if match["sign"] in ">≥" else (None, bound)
    match = _SPAN.fullmatch(text)
    if match is None or (match["low"] is None and match["high"] is None):
        raise AtlasError(f"“{shown(text)}” is not a range of {what}: write 0.1..2, >100 or <1.")
    low, high = (None if match[name] is None else float(match[name]) for name in ("low", "high"))
    if low is not None and high is not None and low > high:
        raise AtlasError(f"“{shown(text)}” is an empty range of {what}: write the smaller number first.")
    if any(bound is not None and not math.isfinite(bound) for bound in (low, high)):
        raise AtlasError(f"“{shown(text)}” is not a range of {what}: write 0.1..2, >100 or <1.")
    return low, high


def parse_layers(text: str, n_layers: int) -> tuple[int, ...] | None:
    """Read `5`, `0-5` or `3,7-9`; None for an empty text. Raises AtlasError for rubbish and for layers the model has not."""
    if not text.strip():
        return None
    chosen: set[int] = set()
    for item in text.split(","):
        match = _LAYERS.fullmatch(item) if item.isascii() else None
        if match is None:
            raise AtlasError(f"“{shown(text)}” is not a choice of layers: write 5, 0-5 or 3,7-9.")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last or last >= n_layers:
            raise AtlasError(f"“{shown(item.strip())}” is out of range: the model's layers are 0 to {n_layers - 1}.")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))
