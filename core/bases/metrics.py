"""Measuring dictionaries on held-out text: how well they reconstruct, how their units fire, what replacing the site by x̂ costs the model.

Formulas: `core.bases.metric_names`. Every mean is over all counted tokens, from float64 sums; nothing is averaged over batches.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from core.bases.batches import Batch, batches, count_tokens
from core.bases.dictionary import Dictionary
from core.bases.held_out import Ranks
from core.bases.losses import Predictions, contexts_at_once, loss_metrics
from core.bases.metric_names import BOS_RULE, OUTPUTS
from core.bases.part import Part, part_read
from core.bases.reconstruction import Reconstruction, Spread, pieces
from core.corpus.slice import Slice
from core.errors import AtlasError
from core.subject.edits import Edit
from core.subject.subject import Subject
from core.units import Site

_CONTEXTS = 32
"""Contexts in one pass to the sites."""
_UNMEASURED = "Only the site was looked at, not the model's output."


@dataclass
class _Sums:
    """Summed cross-entropies and KL of one dictionary, or of one place's ablations."""

    ce: dict[str, float] = field(default_factory=dict[str, float])
    kl: float = 0.0

    def add(self, name: str, loss: float, kl: float = 0.0) -> None:
        self.ce[name] = self.ce.get(name, 0.0) + loss
        self.kl += kl


def measure(
    subject: Subject,
    dictionaries: Sequence[Dictionary],
    piece: Slice,
    ranks: Ranks,
    on_progress: Callable[[int, int], None],
    *,
    outputs: bool = True,
    output_ranks: Ranks | None = None,
) -> list[dict[str, Any]]:
    """Measure dictionaries of one subject, at one site or several, on the contexts of `ranks`: one document for each, ready for JSON.

    One pass over the text serves all of them; `outputs` adds, over `output_ranks` (those of `ranks` if not given), a whole pass as the
    model is, one for each dictionary and two ablations for each place. on_progress gets contexts read and to be read, a context counted
    once for each pass over it, and may raise to stop.
    Each document has the metrics by name, `tokens`, `contexts`, `output_tokens`, `excluded` (what was not counted) and `undefined`: why a
    metric is None. Raises AtlasError for a dictionary that does not fit the subject, and for text without a counted token.
    """
    places = [_part(subject, dictionary) for dictionary in dictionaries]
    dictionaries = [dictionary.to(subject.device) for dictionary in dictionaries]
    ahead = output_ranks if output_ranks is not None else ranks
    if not count_tokens(piece, ranks):
        raise AtlasError("The held-out text has no token to measure on: choose more text.")
    passes = 2 + 2 * len(set(places)) + sum(dictionary.info.d_out is None for dictionary in dictionaries) if outputs else 0
    steps = _Steps(on_progress, len(ranks) + passes * len(ahead))
    with torch.inference_mode():
        spreads, sums = _reconstruct(subject, dictionaries, places, piece, ranks, steps)
        tokens, losses = 0, [_Sums() for _ in dictionaries]
        if outputs:
            means = {place: spread.mean.float() for place, spread in spreads.items()}
            tokens, losses = _replace(subject, dictionaries, places, means, piece, ahead, steps)
    return [
        _document(one, spreads[place], loss, tokens, len(ranks), len(ahead) if outputs else 0)
        for one, place, loss in zip(sums, places, losses, strict=True)
    ]


class _Steps:
    """Counts contexts over all passes."""

    def __init__(self, tell: Callable[[int, int], None], total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0
        tell(0, total)

    def add(self, contexts: int) -> None:
        self._done += contexts
        self._tell(self._done, self._total)


def _part(subject: Subject, dictionary: Dictionary) -> Part:
    info, card = dictionary.info, subject.info
    if info.subject != card.slug or (info.weights_hash is not None and info.weights_hash != card.weights_hash):
        raise AtlasError(
            f"The dictionary {info.key} belongs to another model than {card.slug}: measure it with the model that it was made for."
        )
    return part_read(subject, info)


def _reconstruct(
    subject: Subject, dictionaries: Sequence[Dictionary], places: Sequence[Part], piece: Slice, ranks: Ranks, steps: _Steps
) -> tuple[dict[Part, Spread], list[Reconstruction]]:
    """Read the text once to all sites."""
    spreads = {place: Spread(place.width) for place in places}
    sums = [Reconstruction(dictionary) for dictionary in dictionaries]
    for batch in batches(piece, ranks, _CONTEXTS):
        counted = batch.counted.to(subject.device)

        def handler(site: Site, counted: Tensor = counted) -> Callable[[Tensor], None]:
            def take(activations: Tensor) -> None:
                x = activations[counted].float()
                for place, spread in spreads.items():
                    if place.site == site:
                        spread.add(place.of(x))
                for dictionary, total in zip(dictionaries, sums, strict=True):
                    if dictionary.info.site == site:
                        total.add(dictionary.cut(x))

            return take

        subject.read(batch.tokens, {site: handler(site) for site in {place.site for place in places}})
        steps.add(len(batch.tokens))
    return spreads, sums


def _replace(
    subject: Subject,
    dictionaries: Sequence[Dictionary],
    places: Sequence[Part],
    means: Mapping[Part, Tensor],
    piece: Slice,
    ranks: Ranks,
    steps: _Steps,
) -> tuple[int, list[_Sums]]:
    """Run the model with each site's activation replaced. Returns the predictions counted, and each dictionary's sums.

    Memory, however many contexts and dictionaries there are, beside the model's own pass over one batch (at most 32 contexts, fewer where
    the vocabulary is large): logits as `Predictions` says, at most two batches of them; the activations of the batch at each of the sites,
    one reconstruction of them, and the codes of a piece, 4 · 4 bytes · max(CODES, units).
    """
    losses = [_Sums() for _ in dictionaries]
    length = int(piece.lengths[ranks].max())
    size = min(_CONTEXTS, contexts_at_once(subject.info.vocab_size, length))
    tokens = sum(_replace_in(batch, subject, dictionaries, places, means, losses, steps) for batch in batches(piece, ranks, size))
    if not tokens:
        raise AtlasError("No context of the held-out text has two counted tokens in a row: choose longer contexts.")
    return tokens, losses


def _replace_in(
    batch: Batch,
    subject: Subject,
    dictionaries: Sequence[Dictionary],
    places: Sequence[Part],
    means: Mapping[Part, Tensor],
    losses: Sequence[_Sums],
    steps: _Steps,
) -> int:
    """`_replace` in one batch: add to `losses`. Returns the predictions counted. What it holds is gone before the next batch."""
    predictions = Predictions(subject.logits(batch.tokens), batch.tokens, batch.counted)
    steps.add(len(batch.tokens))
    captured = subject.capture(batch.tokens, {place.site for place in places})
    steps.add(len(batch.tokens))
    first = batch.first
    positions = torch.arange(first, batch.tokens.shape[1])
    clean = predictions.clean()
    for place in dict.fromkeys(places):
        zero = Edit(place.site, "zero", units=place.units(), positions=positions)
        mean = Edit(place.site, "replace", means[place], place.units(), positions)
        for name, edit in (("zero", zero), ("mean", mean)):
            loss, _ = _edited(subject, batch, edit, predictions, divergence=False)
            steps.add(len(batch.tokens))
            for at, sums in zip(places, losses, strict=True):
                if at == place:
                    sums.add(name, loss)
    for dictionary, place, sums in zip(dictionaries, places, losses, strict=True):
        sums.add("clean", clean)
        if dictionary.info.d_out is not None:
            continue
        edit = Edit(place.site, "replace", _reconstructed(dictionary, captured[place.site][:, first:]), place.units(), positions)
        sums.add("spliced", *_edited(subject, batch, edit, predictions, divergence=True))
        steps.add(len(batch.tokens))
    return predictions.tokens


def _reconstructed(dictionary: Dictionary, activations: Tensor) -> Tensor:
    """x̂ [contexts, length, d_in] of a site's activations [contexts, length, width], a piece at a time."""
    x = dictionary.cut(activations)
    found = [dictionary.reconstruct(piece)[1] for piece in pieces(dictionary, x.flatten(0, 1))]
    return torch.cat(found).unflatten(0, x.shape[:2])


def _edited(subject: Subject, batch: Batch, edit: Edit, predictions: Predictions, *, divergence: bool) -> tuple[float, float]:
    with subject.edit([edit]):
        logits = subject.logits(batch.tokens)
    return predictions.edited(logits, divergence=divergence)


def _document(one: Reconstruction, spread: Spread, loss: _Sums, tokens: int, contexts: int, output_contexts: int) -> dict[str, Any]:
    found, undefined = one.metrics(spread)
    if not output_contexts:
        outputs: dict[str, float | None] = dict.fromkeys(OUTPUTS)
        reasons = dict.fromkeys(OUTPUTS, _UNMEASURED)
    elif one.dictionary.info.d_out is not None:
        outputs = dict.fromkeys(OUTPUTS)
        reasons = dict.fromkeys(OUTPUTS, "A transcoder does not reconstruct the site that it reads.")
    else:
        outputs, reasons = loss_metrics(tokens, loss.ce, loss.kl)
    return {
        **found,
        **outputs,
        "tokens": one.tokens,
        "contexts": contexts,
        "output_tokens": tokens,
        "output_contexts": output_contexts,
        "excluded": BOS_RULE,
        "undefined": undefined | reasons,
    }
