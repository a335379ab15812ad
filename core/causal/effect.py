"""What changing units does to the output: the model's next tokens with them and without, position by position.

With p the distribution of the next token at a position of the text as it is, and q the one of the changed model,

* KL            Σᵥ p(v) (log p(v) − log q(v)), in nats
* change        log q(t) − log p(t) of the token t that does follow; the change of the loss is its negative
* total effect  log q(v) − log p(v) of every token v (Cunningham et al. 2023, section 5: the difference of the log-softmax)
* direct effect the same, with q from the original pass in which only what the changed units themselves write is changed in the residual
  stream after the last block: nothing between hears of it

What the units themselves write: at `resid.L` the change of the stream there; at `mlp.L` the change of the stream after block L, with only
that MLP's input changed (exact also where the block normalises what it adds); at `attn.L` the changed activations times the write
directions, because the rest of block L hears of them. Several sites: the sum of each one's own.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from core.causal.change import Rule, UnitChange
from core.causal.effect_units import ChosenUnit, changes
from core.errors import AtlasError
from core.subject.subject import Subject
from core.units import Site, in_order


@dataclass(frozen=True)
class Read:
    """A text: its tokens [n], of which those before `first` (a BOS that was put there) are not of the text."""

    tokens: tuple[int, ...]
    first: int


@dataclass
class _Kept:
    """Keeps what stands at a site, and leaves it as it is."""

    site: Site
    found: Tensor | None = None

    def apply(self, activations: Tensor) -> Tensor:
        self.found = activations.clone()
        return activations

    @property
    def value(self) -> Tensor:
        assert self.found is not None
        return self.found


class Passes:
    """One pass over some texts as they are, and how to make it again with changes: only what lies above the lowest change is computed anew.

    texts: padded on the right. sites: where changes will be made.
    """

    def __init__(self, subject: Subject, texts: Sequence[Read], sites: Sequence[Site]) -> None:
        self._subject = subject
        width = max(len(text.tokens) for text in texts)
        self.tokens = torch.tensor([[*text.tokens, *[0] * (width - len(text.tokens))] for text in texts])
        places = torch.arange(width)
        self.ours = torch.stack([(places >= text.first) & (places < len(text.tokens)) for text in texts])
        """Which positions are of the text: [texts, positions]."""
        self._last = Site("resid", subject.info.n_layers - 1)
        lowest = in_order(sites)[0]
        self._start = lowest.layer if lowest.kind == "resid" else lowest.layer - 1
        streams = {self._last, *(Site("resid", site.layer - back) for site in sites for back in (0, 1) if site.layer >= back)}
        kept = {site: _Kept(site) for site in {*sites, *streams, *([Site("resid", self._start)] if self._start >= 0 else [])}}
        with subject.edit(list(kept.values())):
            self.original = log_softmax(subject.logits(self.tokens))
        """log p [texts, positions, vocabulary]."""
        self._kept = {site: one.value for site, one in kept.items()}

    def at(self, site: Site) -> Tensor:
        """What stood at one of the sites: [texts, positions, width]."""
        return self._kept[site]

    def changed(self, edits: Sequence[UnitChange]) -> Tensor:
        """log q [texts, positions, vocabulary] with the changes."""
        with ExitStack() as stack:
            if self._start >= 0:
                stack.enter_context(self._subject.going_on_from(self._start, self._kept[Site("resid", self._start)]))
            stack.enter_context(self._subject.edit(edits))
            return log_softmax(self._subject.logits(self.tokens))

    def direct(self, edits: Sequence[UnitChange], where: Tensor) -> Tensor:
        """log q [positions chosen, vocabulary] where the output hears of what the units write and nothing else does.

        where: the mask of the positions chosen, [texts, positions]; rows are in the order of `log_p[where]`.
        """
        stream = self._kept[self._last]
        changed = stream.clone()
        for site in {edit.site for edit in edits}:
            changed += self._written(site, [edit for edit in edits if edit.site == site]).to(stream)
        most = int(where.sum(1).max())
        at = (~where).int().argsort(stable=True, dim=1)[:, :most]  # the chosen positions of each text, in order, then others
        with self._subject.going_on_from(self._last.layer, changed):
            found = log_softmax(self._subject.logits(self.tokens, at))
        return found[where.gather(1, at).to(found.device)]

    @torch.inference_mode()
    def _written(self, site: Site, edits: Sequence[UnitChange]) -> Tensor:
        """What the changes at one site add to the residual stream [texts, positions, d_model], on the original text."""
        if site.kind != "mlp":
            stands = self._kept[site]
            changed = stands
            for edit in edits:
                changed = edit.apply(changed)
            moved = (changed - stands).float()
            return moved if site.kind == "resid" else moved @ self._subject.write_directions(site)
        after = Site("resid", site.layer)
        with ExitStack() as stack:
            if site.layer:
                stack.enter_context(self._subject.going_on_from(site.layer - 1, self._kept[Site("resid", site.layer - 1)]))
            stack.enter_context(self._subject.edit(edits))
            return (self._subject.capture(self.tokens, [after])[after] - self._kept[after]).float()


@dataclass(frozen=True)
class Measured:
    """The effect over some texts. Rows are the positions of the texts, one text after the other; the vocabulary has V tokens.

    text, position: [rows], the position without a BOS. token, following: [rows], −1 where nothing follows. activations: [rows, units].
    fires: [rows], whether a unit that is changed there fires. kl, log_p (of the token that follows), change: [rows], NaN where nothing
    follows. raised, lowered, before, after: [rows, 3, listed], float64: tokens, log p and log q of them; before and after are the
    likeliest of p and of q. total, direct: [V], summed over positions where `fires`. p, q: [V], the probabilities summed over them.
    """

    text: Tensor
    position: Tensor
    token: Tensor
    following: Tensor
    activations: Tensor
    fires: Tensor
    kl: Tensor
    log_p: Tensor
    change: Tensor
    raised: Tensor
    lowered: Tensor
    before: Tensor
    after: Tensor
    total: Tensor
    direct: Tensor
    p: Tensor
    q: Tensor


@torch.inference_mode()
def measure(
    subject: Subject, units: Sequence[ChosenUnit], rule: Rule, texts: Sequence[Read], positions: Sequence[int] | None, listed: int
) -> Measured:
    """Read some texts with the units and without.

    positions: where they are changed, from 0 without a BOS; None for everywhere. A BOS that was put before a text stays as it is.
    Raises AtlasError when the output of the changed model is not a number any more.
    """
    passes = Passes(subject, texts, [unit.name.site for unit in units])
    where = passes.ours
    if positions is not None:
        places = torch.arange(where.shape[1])
        firsts = torch.tensor([text.first for text in texts])
        where = where & torch.isin(places[None] - firsts[:, None], torch.tensor(sorted(positions)))
    edits = changes(units, rule, where)
    ours = passes.ours
    activations = torch.stack([unit.basis.read(passes.at(unit.name.site))[..., unit.name.index].float().cpu() for unit in units], -1)[ours]
    fires = (activations > torch.tensor([unit.above for unit in units])).any(-1) & where[ours]
    rows = ours.to(subject.device)
    p = passes.original[rows]
    q = passes.changed(edits)[rows]
    if bool(q.isnan().any()):
        raise AtlasError("With this change the model's output is not a number any more: choose another rule.")
    difference = q - p
    chosen = fires.to(subject.device)
    fired = torch.zeros_like(ours)
    fired[ours] = fires
    text, place = ours.nonzero(as_tuple=True)
    following = passes.tokens.roll(-1, 1).where(ours & ours.roll(-1, 1), torch.tensor(-1))
    following[:, -1] = -1
    following = following[ours]
    known = following >= 0
    target = following.clamp_min(0).to(subject.device)[:, None]
    nothing = torch.tensor(float("nan"))
    probabilities = p.exp()
    return Measured(
        text=text,
        position=place - torch.tensor([text.first for text in texts])[text],
        token=passes.tokens[ours],
        following=following,
        activations=activations,
        fires=fires,
        kl=(probabilities * -difference).sum(-1, dtype=torch.float64).clamp_min(0.0).cpu() + 0.0,  # never −0
        log_p=p.gather(1, target)[:, 0].cpu().where(known, nothing),
        change=difference.gather(1, target)[:, 0].cpu().where(known, nothing),
        raised=_listed(difference, p, q, listed),
        lowered=_listed(-difference, p, q, listed),
        before=_listed(p, p, q, listed),
        after=_listed(q, p, q, listed),
        total=_sum(difference[chosen]),
        direct=_sum(passes.direct(edits, fired) - p[chosen] if bool(fires.any()) else p[chosen]),
        p=_sum(probabilities[chosen]),
        q=_sum(q[chosen].exp()),
    )


def log_softmax(logits: Tensor) -> Tensor:
    """In float32, or in the model's own when that is more exact."""
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


def _listed(order: Tensor, p: Tensor, q: Tensor, count: int) -> Tensor:
    """[rows, 3, count]: the tokens for which `order` is largest, and log p and log q of them."""
    tokens = order.topk(min(count, order.shape[1]), dim=1).indices
    return torch.stack([tokens.double(), p.gather(1, tokens).double(), q.gather(1, tokens).double()], 1).cpu()


def _sum(rows: Tensor) -> Tensor:
    return rows.sum(0, dtype=torch.float64).cpu()
