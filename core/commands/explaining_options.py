"""The options of the commands that explain and score: the same parameters for each of them."""

import argparse
from collections.abc import Callable

from core.autointerp.calibration import CALIBRATIONS
from core.autointerp.puzzle_request import EXPLAINER
from core.autointerp.request import ARMS, CONTROLS, EXPLAINERS, LOGPROBS, SIMULATORS
from core.autointerp.scoring import KINDS
from core.autointerp.splits import EACH
from core.autointerp.studies import STUDIES

COMMANDS = {name: f"core.commands.explaining:{name}" for name in ("explain", "simulate", "score", "revise", "study")} | {
    "puzzles": "core.commands.puzzles:check"
}


def add_explaining(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the six commands."""
    for name, text in (("explain", "Explain units in words and score the words."), ("revise", "Explain units, then revise the words.")):
        parser = add(name, text)
        _add_units(parser)
        if name == "revise":
            parser.add_argument("--arm", default="revision", help=f"{', '.join(ARMS)} (revision)")
        _add_shared(parser)
    for name, text in (
        ("simulate", "Simulate a sentence or an earlier explanation on a unit's records."),
        ("score", "Score a sentence or an earlier explanation of a unit."),
    ):
        parser = add(name, text)
        parser.add_argument("what", metavar="EXPLANATION_OR_UNIT", help="an explanation's id, or with --say a unit")
        parser.add_argument(
            "--say",
            metavar="SENTENCE",
            help="a sentence about the unit; words in stars, *might/could* 10, need no language model",
        )
        _add_shared(parser)
    parser = add("study", "Compare ways of explaining over some units.")
    parser.add_argument("name", metavar="NAME", help=", ".join(STUDIES))
    parser.add_argument(
        "--basis", action="append", metavar="NAME", help="for interpretability: only this basis; may be given again (all that are indexed)"
    )
    _add_units(parser)
    _add_shared(parser)
    parser = add("puzzles", "Check a simulator, or an explainer too, on planted neurons whose explanation is known.")
    parser.add_argument("--file", metavar="FILE", help="a JSON file of puzzles of your own (the built-in ones)")
    parser.add_argument("--simulator", default="chat", help="chat, completions, local, sentence (chat)")
    parser.add_argument("--logprobs", type=int, default=LOGPROBS, help=f"alternatives asked for at each token over HTTP ({LOGPROBS})")
    parser.add_argument("--with-explainer", action="store_true", help=f"check an explainer, too: {EXPLAINER}")
    parser.add_argument("--temperature", type=float, default=1.0, help="of the model that explains, 0 to 2 (1)")
    add_models(parser)
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")


def _add_units(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("units", nargs="*", metavar="UNIT", help="such as smollm2-135m-instruct/mlp.5/neurons/1352")
    parser.add_argument(
        "--filter", metavar="FILTER", help='instead: "sites=mlp.0-5 sample=100 density=0.001..0.05 kurtosis=10.. token=fight"'
    )


def _add_shared(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("how to explain")
    how.add_argument("--explainer", default="pattern", help=f"{', '.join(EXPLAINERS[:4])} (pattern)")
    how.add_argument("--records", type=int, default=5, help="records shown to the explainer (5)")
    how.add_argument("--length", type=int, default=0, help="tokens of each around its peak; 0 for the whole context (0)")
    how.add_argument("--source", default="top", help="records shown: top, random or quantile (top)")
    how.add_argument("--quantile", type=float, default=0.0, help="the lowest quantile of shown records, with --source quantile (0)")
    how.add_argument(
        "--normalise", default="shown", help="0 to 10 by the maximum of the shown records or of the unit: shown or unit (shown)"
    )
    how.add_argument("--temperature", type=float, default=1.0, help="of a model that explains, 0 to 2 (1)")
    how.add_argument(
        "--read",
        type=int,
        default=-1,
        help="tokens that the pattern explainer reads again, beyond the indexed text where that is shorter; a run does so once; 0 for none "
        "(as many as pay)",
    )
    scoring = parser.add_argument_group("how to score")
    scoring.add_argument("--simulator", default="pattern", help=f"{', '.join(SIMULATORS)} (pattern)")
    scoring.add_argument("--logprobs", type=int, default=LOGPROBS, help=f"alternatives asked for at each token over HTTP ({LOGPROBS})")
    scoring.add_argument("--calibration", default="none", help=f"{', '.join(CALIBRATIONS)} (none)")
    scoring.add_argument("--kind", action="append", help=f"may be given again: {', '.join(KINDS)} (top-and-random)")
    scoring.add_argument("--split", default="validation", help="records to score on: validation or test (validation)")
    scoring.add_argument("--each", type=int, default=EACH, help=f"strongest and random records, so many of each ({EACH})")
    scoring.add_argument("--active-only", action="store_true", help="random records only where the unit is active")
    scoring.add_argument("--controls", default="lookup,shuffled", help=f"of {', '.join(CONTROLS)}, with commas (lookup,shuffled)")
    scoring.add_argument("--run", help="the index run to read; the one over most tokens if not given")
    scoring.add_argument("--seed", type=int, default=0, help="of the interval and of the shuffled control (0)")
    add_models(parser)
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")


def add_models(parser: argparse.ArgumentParser) -> None:
    """Which language models are asked, and what may be spent on them."""
    model = parser.add_argument_group("language models")
    model.add_argument("--model", help="explains and simulates: a name at the endpoint; in-process an id, path or known name")
    model.add_argument("--endpoint", metavar="URL", help="such as http://127.0.0.1:8000/v1; without one the model is loaded here")
    for role, does in (("explainer", "explains"), ("simulator", "simulates")):
        model.add_argument(f"--{role}-model", metavar="MODEL", help=f"another model that {does}")
        model.add_argument(f"--{role}-endpoint", metavar="URL", help=f"another endpoint for the model that {does}")
    model.add_argument("--key-env", default="OPENAI_API_KEY", help="the environment variable that holds the key (OPENAI_API_KEY)")
    model.add_argument("--concurrency", type=int, default=8, help="calls in flight (8)")
    model.add_argument("--timeout", type=float, default=60.0, help="seconds for one answer (60)")
    model.add_argument("--price-in", type=float, help="of a million tokens read")
    model.add_argument("--price-out", type=float, help="of a million tokens written")
    model.add_argument("--max-calls", type=int, help="stop before more calls than this")
    model.add_argument("--max-tokens", type=int, help="stop before more tokens than this")
    model.add_argument("--max-money", type=float, help="stop before spending more than this")
