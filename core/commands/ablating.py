"""The command `ablate`: what units do to the output, on the unit's strongest records or on a text."""

import argparse
from typing import Any

from core.causal.effect_request import RULE_NAMES, EffectRequest, explanation_of
from core.commands.follow import as_document, follow
from core.commands.output import emit, number, table
from core.errors import AtlasError, shown
from core.runs import lanes
from core.runs.registry import Registry
from core.store.effects import EffectRun, EffectToken, ShownScore, load_effect_run
from core.store.texts import load_vocab
from core.ui.unit_tables import token_name
from core.vocab import Vocab
from core.workspace import Workspace


def ablate(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Ablate, and print the mean KL, the change of the loss, and the tokens that are lowered and raised most where the unit fires."""
    request = EffectRequest.from_params(
        {
            "units": arguments.units,
            "rule": arguments.rule,
            "text": arguments.text,
            "records": arguments.records,
            "positions": None if arguments.positions is None else positions(arguments.positions),
            "listed": arguments.listed,
            "index": arguments.run,
            "explanations": list(arguments.explanation or []),
        }
    )
    request.check_here(workspace)
    for identity in request.explanations:  # told now, not when the effect has been measured
        explanation_of(workspace, identity, request.names[0])
    run = Registry(workspace).submit("effect", request.to_params(), lane="model")
    lanes.ensure_workers(workspace)
    if arguments.detach:
        emit(arguments, as_document(run), [f"{run.id} is {run.state}: `python -m core runs` shows how it goes"])
        return 0
    found = load_effect_run(workspace, follow(workspace, run.id).id)
    vocab = load_vocab(workspace, request.subject)
    emit(arguments, document(found, vocab), _lines(found, vocab))
    return 0


def positions(text: str) -> list[int]:
    """Read `3,5` or `3-5`. Raises AtlasError."""
    found: list[int] = []
    for piece in filter(None, text.replace(" ", ",").split(",")):
        first, dash, last = piece.partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) <= 6 for end in ends) or int(ends[0]) > int(ends[1]):
            raise AtlasError(f"“{shown(piece)}” is not a position: write whole numbers from 0, such as 3,5 or 3-5.")
        found += range(int(ends[0]), int(ends[1]) + 1)
    return found


def document(found: EffectRun, vocab: Vocab) -> dict[str, Any]:
    """A run of ablation as JSON shows it. delta: mean change of the token's log-probability where a unit fires; direct: the part of it that
    goes past all later layers. kl, loss_change: means over all positions, in nats."""
    return {
        "run": found.run,
        "units": found.manifest["units"],
        "rule": found.rule,
        "kl": found.kl,
        "loss_change": found.loss_change,
        "kl_firing": found.kl_firing,
        "loss_change_firing": found.loss_change_firing,
        "positions": found.positions,
        "firing": found.firing,
        "lowered": [_token(one, vocab) for one in found.lowered],
        "raised": [_token(one, vocab) for one in found.raised],
        "undefined": found.undefined or None,
        "scores": [vars(score) for score in found.scores],
        "provenance": found.manifest["provenance"],
    }


def _token(one: EffectToken, vocab: Vocab) -> dict[str, Any]:
    probabilities = {"probability_before": one.before, "probability_after": one.after}
    return {"token": vocab.pieces([one.token])[0], "id": one.token, "delta": one.change, "direct": one.direct, **probabilities}


def _lines(found: EffectRun, vocab: Vocab) -> list[str]:
    what = ", ".join(str(unit) for unit in found.units)
    lines = [what, f"run {found.run}, set to {RULE_NAMES[found.rule]}, {found.positions:,} positions, {found.firing:,} fire", ""]
    rows = [["", "KL", "LOSS CHANGE"], ["everywhere", number(found.kl, 5), number(found.loss_change, 5)]]
    rows.append(["where it fires", number(found.kl_firing, 5), number(found.loss_change_firing, 5)])
    lines += table(rows, (1, 2))
    for title, tokens in (("LOWERED", found.lowered), ("RAISED", found.raised)):
        if tokens:
            rows = [[title, "DELTA", "DIRECT", "P", "P ABLATED"]]
            rows += [
                [token_name(text), number(one.change), number(one.direct), number(one.before, 5), number(one.after, 5)]
                for one, text in zip(tokens, vocab.pieces([one.token for one in tokens]), strict=True)
            ]
            lines += ["", *table(rows, (1, 2, 3, 4))]
    if found.undefined:
        lines += ["", found.undefined]
    return [*lines, *(f"ablation score of {score.explanation}: {_score(score)}" for score in found.scores)]


def _score(score: ShownScore) -> str:
    if score.score != score.score:
        return f"undefined: {score.reason}"
    return f"{score.score:.3f} over {score.records:,} records, {score.tokens:,} tokens"
