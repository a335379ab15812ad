"""The parameters of a run that makes baselines: axes, random directions, PCA and ICA. No torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from core.bases.job_request import MAX_HEAD, JobRequest
from core.corpus.spec import check_whole
from core.errors import AtlasError, shown
from core.units import check_slug, parse_sites

Baseline = Literal["axes", "random", "pca", "ica"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
MAX_TOKENS = 1_000_000_000
MAX_ICA_TOKENS = 10_000_000
_MANY_LAYERS = 10_000


@dataclass(frozen=True)
class FitRequest(JobRequest):
    """Which baselines to make, at which sites.

    families: some of `BASELINES`. sites: a choice such as `resid.9` or `resid.0-5`. head: only this head's part of them, which are `attn`
    sites then. k: keep the k largest codes of a token, None for all.
    tokens: of the text for the mean and for PCA, at most. ica_tokens: the sample of them that ICA sees, at most. seed: of the random
    directions, of the samples and of ICA's start. name: of the dictionary, where there is one family; else the family's, with `-h3` for the
    head and `-k32` for k.
    """

    WHAT: ClassVar[str] = "A run that fits baselines"
    LISTS: ClassVar[tuple[str, ...]] = ("families",)

    families: tuple[Baseline, ...] = ("pca",)
    sites: str = "resid.0"
    head: int | None = None
    k: int | None = None
    tokens: int = 262_144
    ica_tokens: int = 65_536
    ica_iterations: int = 200
    seed: int = 0
    name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.families, tuple) or not self.families:  # pyright: ignore[reportUnnecessaryIsInstance] - from JSON
            raise AtlasError(f"No baseline was chosen: write {', '.join(BASELINES)}.")
        for family in self.families:
            if family not in BASELINES:
                raise AtlasError(f"“{shown(str(family))}” is not a baseline: choose {', '.join(BASELINES)}.")
        if not isinstance(self.sites, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise AtlasError(f"“{shown(str(self.sites))}” is not a choice of sites: write resid.9 or resid.0-5.")
        sites = parse_sites(self.sites, _MANY_LAYERS)
        if self.head is not None:
            check_whole("The head", self.head, 0, MAX_HEAD)
            if (without := next((site for site in sites if site.kind != "attn"), None)) is not None:
                raise AtlasError(f"{without} has no heads: only attn sites do.")
        if self.k is not None:
            check_whole("k", self.k, 1, 1 << 20)
        check_whole("The number of tokens", self.tokens, 2, MAX_TOKENS)
        check_whole("The number of tokens for ICA", self.ica_tokens, 2, MAX_ICA_TOKENS)
        check_whole("The number of ICA's iterations", self.ica_iterations, 1, 100_000)
        check_whole("The seed", self.seed, 0, 2**31 - 1)
        if self.name is not None:
            check_slug(str(self.name), "basis")
            if len(self.families) > 1:
                raise AtlasError(f"“{shown(self.name)}” cannot name {len(self.families)} baselines: leave the name out.")

    def name_of(self, family: Baseline) -> str:
        """The dictionary's name: `pca`, `pca-k32`, `pca-h3-k32`, or the one that was given."""
        parts = (family, *([] if self.head is None else [f"h{self.head}"]), *([] if self.k is None else [f"k{self.k}"]))
        return self.name or "-".join(parts)
