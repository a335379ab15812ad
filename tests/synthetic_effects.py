"""Writes runs of kind `effect` over a synthetic index, with the program's own writer: what the units did is made up here."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from core.causal import effect_files
from core.causal.effect import Measured
from core.causal.effect_request import EffectRequest
from core.causal.effect_run import SCHEMA, summary
from core.store.texts import load_vocab
from core.store.units import Record, load_unit
from core.units import UnitName
from core.workspace import Workspace, write_json


def write_synthetic_effect(
    workspace: Workspace,
    unit: str = "tiny/mlp.1/neurons/5",
    *,
    run: str = "effect-test",
    records: int = 8,
    rule: str = "zero",
    silent: bool = False,
    scores: Sequence[dict[str, Any]] = (),
    lowered: int = 3,
    seed: int = 0,
) -> EffectRequest:
    """Of `lowered`, a token, the probability falls most. silent: the unit fires nowhere. scores: as they stand in the manifest."""
    name = UnitName.parse(unit)
    view = load_unit(workspace, name)
    found = view.bands["top"][:records]
    explanations = tuple(score["explanation"] for score in scores)
    request = EffectRequest((unit,), rule, records=records, index=view.index.run, explanations=explanations)  # type: ignore[arg-type]
    folder = workspace.runs / run
    folder.mkdir()
    size = load_vocab(workspace, name.subject).size
    effect_files.write_part(folder, 0, 0, _measured(found, size, silent, lowered, seed))
    notes, positions, vocabulary = effect_files.join_parts(folder, 1)
    effect_files.remove_parts(folder)
    said = {"rule": rule, "index": view.index.run, "mean": view.stats["mean"], "above": 0.0, "fires": "activation above 0"}
    document = {
        "schema": SCHEMA,
        "kind": "effect",
        "run": run,
        "state": "complete",
        "request": request.to_params(),
        "subject": view.index.subject,
        "units": [{"unit": unit, **said, "dictionary": {}, "silenced_by": None}],
        "texts": [{name: getattr(record, name) for name in ("context", "document", "source", "start")} for record in found],
        "direct": {name.site.kind: "made up"},
        "scores": list(scores),
        "files": notes,
        **summary(request, positions, vocabulary),
        "provenance": {"code": "made up"},
    }
    write_json(folder / "manifest.json", document)
    return request


def _measured(records: Sequence[Record], size: int, silent: bool, lowered: int, seed: int) -> Measured:
    draw = torch.Generator().manual_seed(seed)
    tokens = [torch.from_numpy(record.tokens[record.first :].astype("int64")) for record in records]
    activations = torch.cat([torch.from_numpy(record.activations[record.first :]) for record in records])
    token = torch.cat(tokens)
    following = torch.cat([torch.cat([one[1:], torch.tensor([-1])]) for one in tokens])
    p = torch.randn(len(token), size, generator=draw).log_softmax(-1)
    moved = p + 0.05 * activations[:, None].clamp_min(0) * torch.randn(size, generator=draw)
    moved[:, lowered] -= 2.0
    q = moved.log_softmax(-1)
    fires = torch.zeros(len(token), dtype=torch.bool) if silent else activations > 0
    known, target = following >= 0, following.clamp_min(0)[:, None]
    nothing = torch.tensor(float("nan"))

    def listed(order: Tensor) -> Tensor:
        best = order.topk(5, dim=1).indices
        return torch.stack([best.double(), p.gather(1, best).double(), q.gather(1, best).double()], 1)

    return Measured(
        text=torch.cat([torch.full((len(one),), place) for place, one in enumerate(tokens)]),
        position=torch.cat([torch.arange(len(one)) for one in tokens]),
        token=token,
        following=following,
        activations=activations[:, None],
        fires=fires,
        kl=(p.exp() * (p - q)).sum(-1).double(),
        log_p=p.gather(1, target)[:, 0].where(known, nothing),
        change=(q - p).gather(1, target)[:, 0].where(known, nothing),
        raised=listed(q - p),
        lowered=listed(p - q),
        before=listed(p),
        after=listed(q),
        total=(q - p)[fires].sum(0, dtype=torch.float64),
        direct=0.5 * (q - p)[fires].sum(0, dtype=torch.float64),
        p=p.exp()[fires].sum(0, dtype=torch.float64),
        q=q.exp()[fires].sum(0, dtype=torch.float64),
    )
