"""What others call a place in a model, and a model: their hook names as sites, and whether two names mean one model."""

import re

from core.errors import AtlasError, shown
from core.subject.info import SubjectInfo
from core.units import Site

_LENS = re.compile(r"blocks\.(\d{1,4})\.(.+)")
_MODULE = re.compile(r"(?:\w+\.)*?(?:layers|h|blocks)\.(\d{1,4})(?:\.(\w[\w.]*))?")
_LENS_SITES = {"hook_resid_post": "resid", "mlp.hook_post": "mlp", "attn.hook_z": "attn"}
_SAME_MODEL = {"gpt2small": "gpt2"}
"""TransformerLens's names that differ from the hub's by more than case and signs."""


def site_of_hook(hook: str) -> Site:
    """The site that a TransformerLens hook name stands for: `blocks.8.hook_resid_pre` is what leaves block 7. Raises AtlasError."""
    match = _LENS.fullmatch(hook)
    if match is not None:
        layer = int(match[1])
        if match[2] == "hook_resid_post":
            return Site("resid", layer)
        if match[2] == "mlp.hook_post":
            return Site("mlp", layer)
        if match[2] == "attn.hook_z":
            return Site("attn", layer)
        if match[2] == "hook_resid_pre" and layer > 0:
            return Site("resid", layer - 1)
    raise _no_site(hook)


def site_of_module(path: str, reads_input: bool = False) -> Site:
    """The site that a module path of transformers stands for: the output of a block is `resid.L`.

    reads_input: what enters the module is read, not what leaves it. Raises AtlasError.
    """
    match = _MODULE.fullmatch(path)
    if match is not None and match[2] is None:
        layer = int(match[1]) - reads_input
        if layer >= 0:
            return Site("resid", layer)
    raise _no_site(f"{'the input of ' if reads_input else ''}{path}")


def is_module(name: str) -> bool:
    """Whether a name looks like the path of a module in a transformers model, as far as sparsify reads them."""
    return name.rpartition(".")[2] == "embed_tokens" or _MODULE.fullmatch(name) is not None


def hook_of_site(site: Site) -> str:
    """TransformerLens's name for a site."""
    return next(f"blocks.{site.layer}.{name}" for name, kind in _LENS_SITES.items() if kind == site.kind)


def is_model(said: str, subject: SubjectInfo) -> bool:
    """Whether a model's name means the subject: the last part of hub ids and paths, whatever the case and the signs between words."""
    return _plain(said) in {_plain(subject.slug), _plain(subject.name_or_path)}


def check_model(said: str | None, subject: SubjectInfo, any_model: bool) -> str | None:
    """A sentence on what was not checked, None when the names agree. Raises AtlasError when they do not, unless `any_model`."""
    if said is not None and is_model(said, subject):
        return None
    if any_model:
        named = "does not say which model it was trained on" if said is None else f"says it was trained on {shown(said)}"
        return f"The file {named}; it is used with {subject.slug} on request."
    if said is None:
        raise AtlasError(
            f"The file does not say which model the dictionary was trained on: if it was {subject.slug}, say so with --any-model."
        )
    raise AtlasError(f"The dictionary was trained on {shown(said)}, not on {subject.slug}: choose that model, or insist with --any-model.")


def _plain(name: str) -> str:
    last = re.sub(r"[^a-z0-9]", "", name.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1].lower())
    return _SAME_MODEL.get(last, last)


def _no_site(where: str) -> AtlasError:
    return AtlasError(
        f"The dictionary reads “{shown(where)}”, which is not a site here: sites are a block's output (resid), what enters the MLP's"
        " down-projection (mlp), and the heads' outputs (attn)."
    )
