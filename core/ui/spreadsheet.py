"""Cells of CSV files that a spreadsheet would take for formulas."""


def inert(text: str) -> str:
    """The text, behind a quotation mark where a spreadsheet would take it for a formula (OWASP, “CSV Injection”)."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
