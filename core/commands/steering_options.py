"""The options of the command `steer`."""

import argparse
from collections.abc import Callable

COMMANDS = {"steer": "core.commands.steering:steer"}


def add_steer(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add("steer", "Let the model go on with a text by itself and with units driven, side by side.")
    parser.add_argument(
        "units",
        nargs="+",
        metavar="UNIT=STRENGTH",
        help="such as smollm2-135m-instruct/mlp.5/neurons/1352=4; strength in the unit's maxima",
    )
    parser.add_argument("--strength", metavar="STRENGTH", help="of units that are named without one")
    parser.add_argument("--text", required=True, help="what both go on with")
    parser.add_argument("--mode", default="add", help="add to the unit's activation, or clamp it (add)")
    parser.add_argument("--where", default="all", help="all positions, or generated: only those of written tokens (all)")
    parser.add_argument("--tokens", default="64", help="how many to write, at most 256 (64)")
    parser.add_argument("--temperature", default="0", help="0 to 5; 0 takes the likeliest token (0)")
    parser.add_argument("--top-p", default="1", help="only the likeliest tokens that hold this share of the probability (1)")
    parser.add_argument("--seed", default="0", help="both sides draw with the same one (0)")
    parser.add_argument("--run", help="the index run that the maxima come from; each unit's largest if not given")
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")
