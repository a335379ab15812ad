"""The parameters of a training run: which dictionary, on which activations, how. No torch."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

from core.bases.bounds import BORDER, DENSE_SHARE, ENTRY, LOGITS, LOOKED_AT, WIDENED
from core.bases.held_out import SHARE
from core.bases.info import MAX_UNITS, NEURONS, Centre
from core.bases.job_request import MAX_HEAD, JobRequest
from core.corpus.spec import MAX_CONTEXTS, check_whole
from core.errors import AtlasError, shown
from core.subject.info import SubjectInfo
from core.units import Site, check_slug

Kind = Literal["tied", "topk"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Reduction = Literal["sum", "mean"]
MAX_TOKENS = 100_000_000_000
MAX_ALPHAS = 64


@dataclass(frozen=True)
class TrainRequest(JobRequest):
    """What to train and how. Raises AtlasError for a value that makes no sense, whatever its type.

    site, head: where; a head's part only of an `attn` site. kind: `tied` (Cunningham et al. 2023) or `topk` (Gao et al. 2024). name: of the
    dictionary; with several alphas, of each with `-a<alpha>` behind it. ratio: units for each number that it reads.
    alphas: weights of the L1 term, trained side by side over one pass of the data (tied only). mse_reduction: what they stand beside: the
    squared error summed over the d numbers of a token (`sum`, the paper's equation 4) or their mean (`mean`, its code), so that
    α_sum = d · α_mean. Both are means over tokens.
    centre: subtract each token's mean over d first. scale: activations are multiplied by it; None for √d / mean norm over the first
    filling of the buffer, so that an α means the same at every site. α stands beside errors and codes of the scaled activations.
    k: active units a token; k_aux, aux_coefficient: the auxiliary term for dead units, k_aux None for d/2 (topk only).
    dead_tokens: a unit that was active on none of the last so many tokens counts as dead; None for a tenth of `tokens`, at most 10,000,000.
    revive: tied only: whether dead units are given new directions once they count as dead, until half of the run is done. Not in the paper.
    tokens: activation vectors in all, more than the text has for several passes over it, each in another order. batch: in one step.
    lr: of Adam. bias_rate: biases learn so many times as fast; None for the mean norm of the prepared activations, which is the scale that
    biases live on; 1 is plain Adam, as in the papers. warmup, decay: shares of the steps in which the rate rises from 0 at the beginning
    and falls to 0 at the end, both linearly.
    seed: of the first weights and of the order. buffer: activation vectors that are mixed. block: contexts in a forward pass.
    checkpoint_seconds: work that a kill may cost. evaluations: how often the loss recovered is looked at, at even distances.
    """

    WHAT: ClassVar[str] = "A training run"
    LISTS: ClassVar[tuple[str, ...]] = ("alphas",)

    site: str = "resid.0"
    head: int | None = None
    kind: Kind = "tied"
    name: str = "sae"
    ratio: float = 4.0
    alphas: tuple[float, ...] = (1.0,)
    mse_reduction: Reduction = "sum"
    centre: Centre = "none"
    scale: float | None = None
    k: int = 32
    k_aux: int | None = None
    aux_coefficient: float = 1 / 32
    dead_tokens: int | None = None
    revive: bool = False
    tokens: int = 1_000_000
    batch: int = 256
    lr: float = 1e-3
    bias_rate: float | None = None
    warmup: float = 0.02
    decay: float = 0.2
    seed: int = 0
    buffer: int = 65_536
    block: int = 32
    checkpoint_seconds: float = 60.0
    evaluations: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.site, str):  # pyright: ignore[reportUnnecessaryIsInstance] - it may come from JSON
            raise AtlasError(f"“{shown(str(self.site))}” is not a site: write mlp.5, resid.5 or attn.5.")
        site = Site.parse(self.site)
        if self.head is not None:
            if site.kind != "attn":
                raise AtlasError(f"{site} has no heads: only attn sites do.")
            check_whole("The head", self.head, 0, MAX_HEAD)
        if self.kind not in KINDS:
            raise AtlasError(f"“{shown(str(self.kind))}” is not a kind of dictionary that can be trained: choose {' or '.join(KINDS)}.")
        if self.mse_reduction not in get_args(Reduction):
            raise AtlasError(f"“{shown(str(self.mse_reduction))}” is not a way to reduce the squared error: choose sum or mean.")
        if self.centre not in get_args(Centre):
            raise AtlasError(f"“{shown(str(self.centre))}” is not a way to centre activations: choose none or per_token.")
        _between("The ratio", self.ratio, 0.01, 1024)
        if self.scale is not None:
            _between("The scale", self.scale, 1e-9, 1e9)
        self._check_alphas()
        check_whole("k", self.k, 1, MAX_UNITS)
        if self.k_aux is not None:
            check_whole("k_aux", self.k_aux, 1, MAX_UNITS)
        _between("The coefficient of the auxiliary term", self.aux_coefficient, 0, 1e6)
        check_whole("The number of activation vectors", self.tokens, 1, MAX_TOKENS)
        check_whole("The batch", self.batch, 1, 1 << 20)
        if self.dead_tokens is not None:
            check_whole("The number of tokens after which a unit counts as dead", self.dead_tokens, 1, MAX_TOKENS)
        if not isinstance(self.revive, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AtlasError("The choice of new directions for dead units must be true or false.")
        if self.revive and self.kind != "tied":
            raise AtlasError("A TopK dictionary has an auxiliary term for its dead units: leave the choice of new directions out.")
        _between("The learning rate", self.lr, 1e-9, 10)
        if self.bias_rate is not None:
            _between("The biases' multiple of the learning rate", self.bias_rate, 1e-9, 1e9)
        _between("The share of the run in which the rate rises", self.warmup, 0, 1)
        _between("The share of the run in which the rate falls", self.decay, 0, 1)
        if self.warmup + self.decay > 1:
            raise AtlasError(f"The rate cannot rise for {self.warmup:g} and fall for {self.decay:g} of one run: together at most 1.")
        check_whole("The seed", self.seed, 0, 2**31 - 1)
        check_whole("The number of contexts in a forward pass", self.block, 1, 4096)
        check_whole("The buffer", self.buffer, 1, 1 << 28)
        if self.buffer < max(2 * self.batch, 2 * self.block * self.corpus.length):
            raise AtlasError(
                f"A buffer of {self.buffer:,} vectors is too small to mix batches of {self.batch:,} and forward passes of"
                f" {self.block * self.corpus.length:,}: take at least {max(2 * self.batch, 2 * self.block * self.corpus.length):,}."
            )
        _between("The seconds between two checkpoints", self.checkpoint_seconds, 0, 86_400)
        check_whole("The number of evaluations", self.evaluations, 0, 1000)
        for name in self.names():
            if check_slug(name, "basis") == NEURONS:
                raise AtlasError(f"“{NEURONS}” is the name of the plain neurons: choose another for this dictionary.")

    def _check_alphas(self) -> None:
        if not isinstance(self.alphas, tuple) or not 1 <= len(self.alphas) <= MAX_ALPHAS:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AtlasError(f"Give one alpha or several, at most {MAX_ALPHAS}, such as 0.5, 1 or 2.")
        for alpha in self.alphas:
            _between("Alpha", alpha, 0, 1e6)
        if len({f"{alpha:g}" for alpha in self.alphas}) < len(self.alphas):
            raise AtlasError("Two alphas are the same number, or nearly: leave one out.")
        if self.kind == "topk" and len(self.alphas) > 1:
            raise AtlasError("A TopK dictionary has no alpha: its sparsity is k. Leave the alphas out.")

    def names(self) -> tuple[str, ...]:
        """Of the dictionaries that the run makes: NAME, or NAME-a<alpha> when there are several alphas."""
        if not isinstance(self.name, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AtlasError(f"“{shown(str(self.name))}” is not the name of a dictionary: use a-z, 0-9, dot, dash and underscore.")
        if len(self.alphas) == 1:
            return (self.name,)
        return tuple(f"{self.name}-a{alpha:g}".replace("+", "") for alpha in self.alphas)

    @property
    def steps(self) -> int:
        """Steps of the run: the last batch is whole too, so up to a batch more than `tokens` is read."""
        return -(-self.tokens // self.batch)

    @property
    def patience(self) -> int:
        """Tokens without activity after which a unit counts as dead."""
        return self.dead_tokens if self.dead_tokens is not None else max(1, min(10_000_000, self.tokens // 10))

    def units(self, d: int) -> int:
        """Units of a dictionary that reads d numbers. Raises AtlasError when there are too few or too many, or fewer than k."""
        units = round(self.ratio * d)
        if not 1 <= units <= MAX_UNITS:
            raise AtlasError(f"A dictionary of {units:,} units over {d:,} numbers is not possible: choose another ratio.")
        if self.kind == "topk" and self.k > units:
            raise AtlasError(f"k is {self.k:,}, but there are only {units:,} units: choose a smaller k or a larger ratio.")
        return units

    def alphas_beside_sum(self, d: int) -> tuple[float, ...]:
        """The alphas as they stand beside the summed squared error."""
        return tuple(alpha * d if self.mse_reduction == "mean" else alpha for alpha in self.alphas)

    def rate(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        rising, falling = self.warmup * self.steps, self.decay * self.steps
        factor = 1.0
        if rising > 0:
            factor = min(factor, (step + 1) / rising)
        if falling > 0:
            factor = min(factor, (self.steps - step) / falling)
        return self.lr * factor


@dataclass(frozen=True)
class Estimate:
    """What a training run will need: bytes at most, and floating-point operations.

    From shapes alone. Not counted: the program with its libraries, and what they keep for themselves.

    buffer_bytes: the shuffle buffer, and the text's tokens. weight_bytes: of each alpha its weights, their two moments, and rows in
    bfloat16. pass_bytes: gradients and scratch, one set for all alphas. subject_bytes: the model's weights; 0 where it was not given.
    moment_bytes: the largest of what comes and goes: a pass of the model, a step, a look at the loss recovered, a checkpoint.
    forward_flops: in tokens of the model's pass to the site.
    """

    buffer_bytes: int
    weight_bytes: int
    pass_bytes: int
    subject_bytes: int
    moment_bytes: int
    forward_flops: float
    step_flops: float

    @property
    def bytes(self) -> int:
        return self.buffer_bytes + self.weight_bytes + self.pass_bytes + self.subject_bytes + self.moment_bytes

    def seconds(self, tokens_per_second: float, flops_per_second: float) -> float:
        """Time of the run, given the model's speed to the site and this machine's at products of matrices."""
        return self.forward_flops / tokens_per_second + self.step_flops / flops_per_second


def estimate(request: TrainRequest, d: int, subject: SubjectInfo | None = None) -> Estimate:
    """What `request` needs for a site (or head) of d numbers. subject: the model, None while it is not known."""
    units, members, batch = request.units(d), len(request.alphas), request.batch
    rows = 1 if request.kind == "tied" else 2
    matrix, codes = units * d, batch * units
    # Rows and their two moments, 12; tied ones also as the loss sees them, 4; in bfloat16, 2; vectors.
    weights = matrix * (12 * rows + (4 if rows == 1 else 0) + 2) + 64 * units
    entries = batch * (request.k + (request.k_aux or d // 2)) if rows == 2 else BORDER * DENSE_SHARE * codes
    # The gradients, the product, what is active, and vectors of the batch.
    kept = 4 * rows * matrix + 4 * codes + math.ceil(ENTRY * entries) + 24 * batch * d
    # A dense pass or the auxiliary term, their sums in 64 bits with them; two gradients more, and what Adam takes in plain torch.
    step = 17 * codes + 12 * matrix + 48 * batch * d
    buffer = 4 * request.buffer * d
    shelf = members * rows * 4 * matrix
    tokens = float(request.steps * batch)
    return Estimate(
        buffer_bytes=buffer + 24 * request.buffer + request.corpus.contexts * (4 * request.corpus.length + 64),
        weight_bytes=members * weights,
        pass_bytes=kept,
        subject_bytes=0 if subject is None else _weight_bytes(request, subject),
        moment_bytes=max(
            step,
            buffer,  # in a checkpoint, and what is left of it is moved to its beginning
            shelf,
            _pass_bytes(request, subject, request.block) + 8 * request.block * request.corpus.length * d,
            shelf + _look_bytes(request, d, units, subject) if request.evaluations else 0,
        ),
        forward_flops=tokens,
        # One product of all activations with all encoders; what follows is over active units and less.
        step_flops=tokens * members * 2.0 * 2 * matrix,
    )


def _weight_bytes(request: TrainRequest, card: SubjectInfo) -> int:
    """The model, as if embedding and unembedding were two matrices, every MLP gated, and every head had keys of its own."""
    d, mlp, attn = card.d_model, card.widths["mlp"], card.widths["attn"]
    return (2 if request.dtype == "bfloat16" else 4) * (2 * card.vocab_size * d + card.n_layers * (4 * d * attn + 3 * d * mlp + 4 * d))


def _pass_bytes(request: TrainRequest, card: SubjectInfo | None, contexts: int) -> int:
    """A pass over so many contexts, a layer at a time; 0 where the model is not known."""
    if card is None:
        return 0
    length = request.corpus.length
    return 4 * contexts * length * (8 * card.d_model + 4 * card.widths["mlp"] + 6 * card.widths["attn"] + length)


def _look_bytes(request: TrainRequest, d: int, units: int, card: SubjectInfo | None) -> int:
    """A look at the loss recovered: two passes' logits, some of them in 64 bits; codes four times over; activations in 64 bits."""
    tokens = LOOKED_AT * request.corpus.length
    logits = LOGITS if card is None else tokens * card.vocab_size
    return 8 * logits + 40 * min(WIDENED, logits) + 16 * tokens * units + 64 * tokens * d + _pass_bytes(request, card, LOOKED_AT)


def contexts_for(tokens: int, length: int) -> int:
    """As many contexts as give so many tokens for training, a BOS and the held-out part left out; at most what a slice can hold."""
    share = (SHARE - 1) / SHARE
    return min(MAX_CONTEXTS, max(2, math.ceil(tokens / max(1, length - 1) / share * 1.02)))


def _between(what: str, value: object, low: float, high: float) -> None:
    """Raises AtlasError unless `value` is a number in that range. The type is checked because it may come from JSON."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= cast(Any, value) <= high:
        raise AtlasError(f"{what} must be a number from {low:g} to {high:,g}, not {shown(str(value))}.")
