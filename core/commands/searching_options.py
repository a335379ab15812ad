"""The options of the command `search`."""

import argparse
from collections.abc import Callable

from core.units import SITE_KINDS

COMMANDS = {"search": "core.commands.searching:search"}


def add_search(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command."""
    search = add("search", "Find units by words: in explanations, what people wrote, and top tokens.")
    search.add_argument("words", nargs="+", metavar="WORD", help="the more of them a text has, and the rarer they are, the better it fits")
    search.add_argument(
        "--kind", action="append", metavar="KIND", help="explanation, tokens, note, own, label or collection; several times for several"
    )
    search.add_argument("--model", metavar="SLUG", help="only units of this model")
    search.add_argument("--site", metavar="KIND", choices=SITE_KINDS, help=f"only {', '.join(SITE_KINDS[:-1])} or {SITE_KINDS[-1]}")
    search.add_argument("--layers", metavar="LAYERS", help="only these: 5, 0-5 or 3,7-9")
    search.add_argument("--basis", help="only this basis: neurons, or a dictionary's name")
    search.add_argument("--labelled", action="store_true", help="only units that somebody gave a label")
    search.add_argument("--least", type=float, metavar="RHO", help="only explanations with at least this score")
    search.add_argument("--by", metavar="NAME", help="only what this person or explainer wrote")
    search.add_argument("--limit", type=int, default=20, metavar="N", help="how many are printed (20)")
