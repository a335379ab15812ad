"""The command `steer`: what the model writes by itself and with units driven."""

import argparse
from typing import Any

from core.causal.steer_request import SteerRequest
from core.commands.follow import as_document, follow
from core.commands.output import emit, number, printable, table
from core.errors import AtlasError, shown
from core.runs import lanes
from core.runs.registry import Registry, Run
from core.store.steered import SIDES, Steered, load_steered
from core.store.texts import load_vocab
from core.vocab import Vocab
from core.workspace import Workspace

LISTED = 5
"""Next tokens printed of the first step at which the sides differ."""


def steer(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Queue the run with what the page would give it, and print both texts when it is done."""
    pairs = [_pair(text, arguments.strength) for text in arguments.units]
    request = SteerRequest(
        units=tuple(unit for unit, _ in pairs),
        strengths=tuple(strength for _, strength in pairs),
        text=arguments.text,
        mode=arguments.mode,
        where=arguments.where,
        tokens=_whole("The number of tokens to write", arguments.tokens),
        temperature=_decimal("The temperature", arguments.temperature),
        top_p=_decimal("The share of probability (top-p)", arguments.top_p),
        seed=_whole("The seed", arguments.seed),
        index=arguments.run,
    )
    request.driven(workspace)
    return carry_out(arguments, workspace, Registry(workspace).submit("steer", request.to_params(), lane="model"))


def carry_out(arguments: argparse.Namespace, workspace: Workspace, run: Run) -> int:
    """Follow a queued run unless detached, and print it."""
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    done = follow(workspace, run.id)
    found = load_steered(workspace, done.id)
    if found is None:
        raise AtlasError(f"{done.id} left nothing: steer again.")
    vocab = load_vocab(workspace, found.subject["slug"])
    emit(arguments, {**as_document(done), **_document(found, vocab)}, _lines(found, vocab))
    return 0


def is_damaged(workspace: Workspace, run: Run) -> bool:
    """Whether a done run's file cannot be read."""
    try:
        found = load_steered(workspace, run.id)
    except AtlasError:
        return True
    return found is None or not found.complete


def _document(found: Steered, vocab: Vocab) -> dict[str, Any]:
    """Both sides with their tokens; of each the next tokens with the probability on both sides."""
    sides: dict[str, Any] = {}
    for side in SIDES:
        text = found.side(side)
        sides[side] = {
            "text": vocab.decode(text.tokens),
            "tokens": [
                {
                    "token": token,
                    "text": vocab.label(token),
                    "log_p": text.log_p[place],
                    "changed": place in text.changed,
                    "next": [{"text": vocab.label(chance.token), **vars(chance)} for chance in text.top[place]],
                }
                for place, token in enumerate(text.tokens)
            ],
        }
    return {"text": vocab.decode(found.text), "units": found.units, "differ": found.differ, **sides, "provenance": found.provenance}


def _lines(found: Steered, vocab: Vocab) -> list[str]:
    lines = [f"{side}: {printable(vocab.decode(found.side(side).tokens))}" for side in SIDES]
    if found.differ is None:
        return [*lines, "both are the same"]
    lines.append(f"they differ from token {found.differ + 1} on; the likeliest there:")
    rows = [["ORIGINAL", "P", "P STEERED", "STEERED", "P", "P ORIGINAL"]]
    tops = [found.side(side).top[found.differ][:LISTED] if found.differ < len(found.side(side).top) else () for side in SIDES]
    for place in range(max(map(len, tops))):
        one, other = (top[place] if place < len(top) else None for top in tops)
        left = ["", "", ""] if one is None else [vocab.label(one.token), number(one.original), number(one.steered)]
        right = ["", "", ""] if other is None else [vocab.label(other.token), number(other.steered), number(other.original)]
        rows.append([*left, *right])
    return [*lines, *table(rows, (1, 2, 4, 5))]


def _pair(text: str, usual: str | None) -> tuple[str, float]:
    unit, given, strength = text.partition("=")
    if not given and usual is None:
        raise AtlasError(f"“{shown(text)}” has no strength: write UNIT=STRENGTH, or give one for all with --strength.")
    return unit, _decimal("A strength", strength if given else str(usual))


def _decimal(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise AtlasError(f"{what} must be a number, not {shown(text)}.") from None


def _whole(what: str, text: str) -> int:
    if not text.strip().removeprefix("-").isdecimal() or len(text) > 20:
        raise AtlasError(f"{what} must be a whole number, not {shown(text)}.")
    return int(text)
