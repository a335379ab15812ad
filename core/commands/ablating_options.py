"""The options of the command `ablate`."""

import argparse
from collections.abc import Callable

from core.causal.effect_request import MOST_LISTED, MOST_RECORDS, RULES

COMMANDS = {"ablate": "core.commands.ablating:ablate"}


def add_ablate(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add("ablate", "Show what a unit does to the model's output: the next tokens with it and without.")
    parser.add_argument("units", metavar="UNIT", nargs="+", help="such as smollm2-135m-instruct/mlp.5/neurons/1352; several with --text")
    parser.add_argument("--rule", default="zero", help=f"what it is set to: {', '.join(RULES)} (zero)")
    parser.add_argument("--text", help="a text of your own; the unit's strongest records if not given")
    parser.add_argument("--records", type=int, help=f"how many of them ({MOST_RECORDS})")
    parser.add_argument("--positions", metavar="PLACES", help="only at these positions, from 0, such as 3,5 or 3-5 (everywhere)")
    parser.add_argument("--listed", type=int, help=f"how many raised and lowered tokens to list, at most {MOST_LISTED} (10)")
    parser.add_argument("--run", help="the index run to read; the one over most tokens if not given")
    parser.add_argument("--explanation", metavar="ID", action="append", help="make the ablation score of this explanation; may be repeated")
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")
