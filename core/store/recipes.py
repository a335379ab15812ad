"""A recipe, as manifests keep it, in lines to read."""

import json
from collections.abc import Mapping
from typing import Any


def flatten(recipe: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Nested items as (dotted name, text)."""
    found: list[tuple[str, str]] = []
    for key, value in recipe.items():
        name = f"{before}{key}".replace("_", " ")
        if isinstance(value, Mapping) and value:
            found += flatten(value, f"{name}: ")
        elif value is None:
            found.append((name, "none"))
        elif isinstance(value, bool):
            found.append((name, "yes" if value else "no"))
        elif isinstance(value, int):
            found.append((name, f"{value:,}" if abs(value) >= 10_000 and "seed" not in name else str(value)))
        elif isinstance(value, str | float):
            found.append((name, str(value)))
        else:
            found.append((name, json.dumps(value, ensure_ascii=False)))
    return found
