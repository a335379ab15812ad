"""The options of the command `ioi`."""

import argparse
from collections.abc import Callable

from core.causal.ioi_request import AGAIN, SEARCH_ORDERS, USUAL_ORDERS, USUAL_PAIRS, USUAL_SEEDS, USUAL_THRESHOLDS

COMMANDS = {"ioi": "core.commands.patching:ioi"}


def add_ioi(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = add("ioi", "Patch features into sentences about an indirect object, and show how many it takes to change the answer.")
    parser.add_argument(
        "decompositions",
        metavar="SITE/NAME",
        nargs="*",
        help="such as resid.9/neurons, resid.9/NAME of a dictionary, or resid.9/pca:linear; the baseline only if none is named",
    )
    parser.add_argument("--sites", help="with everything that can be patched there, such as resid.9 or resid.3,resid.20")
    parser.add_argument("--model", default="smollm2-135m-instruct", metavar="NAME", help="a model of this workspace (the embedded one)")
    parser.add_argument("--dtype", default="float32", help="float32 or bfloat16 (float32)")
    parser.add_argument("--orders", help=f"of {', '.join(SEARCH_ORDERS)} ({','.join(USUAL_ORDERS)})")
    parser.add_argument("--pairs", type=int, help=f"of sentences ({USUAL_PAIRS})")
    parser.add_argument("--seeds", type=int, help=f"how many times sentences are drawn ({USUAL_SEEDS})")
    parser.add_argument("--first-seed", type=int, help="of them (0)")
    parser.add_argument("--thresholds", type=int, help=f"of the sweep ({USUAL_THRESHOLDS})")
    parser.add_argument("--lowest", type=float, help="threshold, in nats (1e-5)")
    parser.add_argument("--highest", type=float, help="threshold, in nats (1)")
    parser.add_argument(
        "--again",
        type=float,
        help=f"spare a feature a visit while it raised the KL by more than so many thresholds; 0 visits all, as published ({AGAIN:g})",
    )
    own = parser.add_argument_group("sentences of your own")
    own.add_argument("--template", action="append", metavar="TEXT", help="with {IO} once and {S} twice; may be repeated")
    own.add_argument("--names", help="with commas; each a single token after a space")
    own.add_argument("--places", help="for {PLACE}, with commas")
    own.add_argument("--objects", help="for {OBJECT}, with commas")
    own.add_argument("--bos", action=argparse.BooleanOptionalAction, default=None, help="put a BOS token first (what the tokenizer does)")
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")
