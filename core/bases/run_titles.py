"""What a run over dictionaries is about, in a line. No torch."""

from collections.abc import Mapping
from typing import Any

KINDS = ("sae", "dictionary", "basis", "measure")
"""The kinds of run that make or measure dictionaries."""


def title(kind: str, params: Mapping[str, Any]) -> str:
    """Such as `Train paper-r4 · tied · resid.9 · smollm2-135m-instruct · embedded`. Empty for another kind; what is missing is left out."""
    if kind == "sae":
        alphas = params.get("alphas")
        many = f"{len(alphas)} alphas" if isinstance(alphas, list) and len(alphas) > 1 else None
        named = f"Train {_text(params, 'name') or 'a dictionary'}"
        return _line(named, _text(params, "kind"), many, _head(params), *_where(params, "site"))
    if kind == "dictionary":
        return _line(
            f"Import {_text(params, 'source') or 'a dictionary'}", _text(params, "file"), _text(params, "site"), _text(params, "model")
        )
    if kind == "basis":
        families = params.get("families")
        names = ", ".join(map(str, families)) if isinstance(families, list) else "baselines"
        kept = f"top {params['k']}" if isinstance(params.get("k"), int) else None
        return _line(f"Fit {names}", kept, _head(params), *_where(params, "sites"))
    if kind == "measure":
        keys = params.get("dictionaries")
        keys = [str(key) for key in keys] if isinstance(keys, list) else []
        named = keys[0].partition("/")[2] if len(keys) == 1 else f"{len(keys)} dictionaries"
        return _line(f"Measure {named}", *_where(params, ""))
    return ""


def _where(params: Mapping[str, Any], site: str) -> list[str | None]:
    corpus = params.get("corpus")
    source = str(corpus["source"]) if isinstance(corpus, Mapping) and "source" in corpus else None
    return [_text(params, site), _text(params, "model"), source]


def _head(params: Mapping[str, Any]) -> str | None:
    head = params.get("head")
    return f"head {head}" if isinstance(head, int) else None


def _text(params: Mapping[str, Any], name: str) -> str | None:
    value = params.get(name)
    return str(value) if isinstance(value, str) and value else None


def _line(*parts: str | None) -> str:
    return " · ".join(part for part in parts if part)
