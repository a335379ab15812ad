"""Cells of CSV files that a spreadsheet would take for formulas."""

from typing import Any


def inert(value: Any) -> Any:
    """A text stands behind a quotation mark where a spreadsheet would take it for a formula (OWASP, “CSV Injection”); the rest as it is."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
