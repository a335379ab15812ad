"""What the interactive worker can do: read a person's text, or one record again, through a loaded subject. Imports torch.

Positions of a prepended BOS are left out of answers, or null where an answer runs along a stored context.
"""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from core.bases.basis import Basis, basis_at
from core.errors import AtlasError
from core.remembered import FileKey, Remembered, file_key
from core.runs.interactive import Say
from core.runs.shelf_operations import ShelfOperations
from core.runs.thresholds import STEPS, Thresholds, load_thresholds
from core.runs.worker import KINDS, work
from core.store.catalog import IndexInfo, find_unit, indexes, load_index, read_current
from core.store.texts import load_text
from core.subject.info import subject_info
from core.subject.loaded import kept_subject
from core.subject.subject import Subject
from core.units import Site, UnitName, in_order
from core.workspace import Workspace

MAX_TOKENS = 256
STRONGEST = 20

Floats = npt.NDArray[np.float32]
_Candidates = list[tuple[float, Site, int, float]]


class ModelOperations:
    """The operations of one workspace: `operations(op, args, say)` answers with a JSON object or raises AtlasError.

    * `work {}`: do the queued runs of the model lane, one after another. `{}`. Nobody waits for its answer.
    * `warm {subject}`: load it. `{subject, device, dtype}`.
    * `try_text {subject, run?, text, max_tokens=256}`: where units fire strongly. `{run, tokens, bos}` and what `try_text` returns.
    * `unit_on_text {unit, run?, text, max_tokens=256}`: one unit on every token. `{run, tokens, bos, activations, thresholds}`.
    * `recompute {unit, run, context}`: one stored context through the subject again. `{run, context, tokens, activations}`.
    * `alike {one, other}`: MMCS of two dictionaries, and the share of directions that have a partner. `{hashes, forth, back}`.
    * `export {dictionary}`: a zip in SAELens's format below scratch/exports. `{file, bytes, hash, notes}`.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        # One text at a time gains little from threads, and when others want the cores too (an index in the batch lane) they wait for
        # each other: 98 tokens through SmolLM2 on two busy cores took 0.5 to 2 s with one thread, 4 to 10 s with two.
        torch.set_num_threads(min(torch.get_num_threads(), max(1, (os.cpu_count() or 1) // 2)))
        self._bases: Remembered[tuple[str, str, str, str, str], Basis] = Remembered(8)
        self._thresholds: Remembered[FileKey, tuple[IndexInfo, dict[Site, Thresholds]]] = Remembered(4)
        shelf = ShelfOperations(workspace)
        self._table: dict[str, Callable[[Mapping[str, Any], Say], dict[str, Any]]] = {
            "work": self._work,
            "warm": self._warm,
            "try_text": self._try_text,
            "unit_on_text": self._unit_on_text,
            "recompute": self._recompute,
            "alike": shelf.alike,
            "export": shelf.export,
        }

    def __call__(self, op: str, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        if op not in self._table:
            raise AtlasError(f"The model process does not know “{op[:40]}”: it can {', '.join(self._table)}.")
        return self._table[op](args, say)

    def _work(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        work(self._workspace, KINDS, "model")
        return {}

    def _warm(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        slug = _text(args, "subject")
        index = next((index for index in indexes(self._workspace) if index.slug == slug), None)
        subject = self._subject(slug, index, say)
        return {"subject": subject.info.slug, "device": str(subject.device), "dtype": subject.dtype_name}

    def _try_text(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        slug = _text(args, "subject")
        index, thresholds = self._thresholds_of(slug, args.get("run"))
        subject = self._subject(slug, index, say)
        tokens, first = _encode(subject, index, args)
        say("reading the text")
        bases = {site: self._basis(subject, index, site) for site in thresholds}
        return {"run": index.run, "tokens": tokens[first:], "bos": bool(first), **try_text(subject, tokens, first, thresholds, bases)}

    def _unit_on_text(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        name = UnitName.parse(_text(args, "unit"))
        index = find_unit(self._workspace, name, args.get("run"))
        index, thresholds = self._thresholds_of(name.subject, index.run)
        subject = self._subject(name.subject, index, say)
        tokens, first = _encode(subject, index, args)
        say("reading the text")
        steps = thresholds[name.site].steps[:, name.index].tolist()
        return {
            "run": index.run,
            "tokens": tokens[first:],
            "bos": bool(first),
            "activations": _read_unit(subject, self._basis(subject, index, name.site), tokens, name.index)[first:].tolist(),
            "thresholds": dict(zip(STEPS, steps, strict=True)),
        }

    def _recompute(self, args: Mapping[str, Any], say: Say) -> dict[str, Any]:
        name = UnitName.parse(_text(args, "unit"))
        index = find_unit(self._workspace, name, args.get("run"))
        text = read_current(self._workspace, index, partial(load_text, self._workspace))
        rank = args.get("context")
        if not isinstance(rank, int) or not 0 <= rank < len(text) or not len(text.of(rank)):
            raise AtlasError(f"{str(rank)[:40]} is not a context of this run: they are 0 to {len(text) - 1}.")
        subject = self._subject(name.subject, index, say)
        say("reading the context")
        tokens = text.of(rank).tolist()
        basis = self._basis(subject, index, name.site)
        activations: list[float | None] = _read_unit(subject, basis, tokens, name.index).tolist()
        if index.slice["bos"]:
            activations[0] = None
        return {"run": index.run, "context": rank, "tokens": tokens, "activations": activations}

    def _thresholds_of(self, slug: str, run: Any) -> tuple[IndexInfo, dict[Site, Thresholds]]:
        """Of run `run`, else of the subject's largest index. Read again when the run has published more."""
        if run is None:
            mine = [index for index in indexes(self._workspace) if index.slug == slug]
            if not mine:
                subject_info(self._workspace, slug)
                raise AtlasError(f"The model “{slug}” is not indexed yet: start an index to know when its units fire strongly.")
            index = mine[0]
        else:
            index = load_index(self._workspace, str(run))
            if index.slug != slug:
                raise AtlasError(f"The run “{index.run}” is about {index.slug}, not {slug}: choose another run.")
        found = self._thresholds.get(file_key(index.path), lambda: load_thresholds(self._workspace, index.run))
        if not found[1]:
            raise AtlasError(f"The run “{index.run}” has no results yet: its first part is still being made.")
        return found

    def _subject(self, slug: str, index: IndexInfo | None, say: Say) -> Subject:
        """The subject as the index read it, loaded now or before. Raises AtlasError when it is not the same model any more."""
        dtype = "float32" if index is None else str(_said(index, "dtype") or "float32")
        expected = None if index is None else index.subject["weights_hash"]
        return kept_subject(self._workspace, slug, dtype=dtype, weights_hash=expected, say=say)

    def _basis(self, subject: Subject, index: IndexInfo, site: Site) -> Basis:
        """How the index read the site, its weights kept from before."""
        told: str = index.dictionary(site).get("weights_sha256", "")
        key = (subject.info.slug, subject.dtype_name, str(site), index.basis, told)
        return self._bases.get(key, lambda: basis_at(self._workspace, subject, site, index.basis, told or None))


def try_text(
    subject: Subject, tokens: list[int], first: int, thresholds: Mapping[Site, Thresholds], bases: Mapping[Site, Basis]
) -> dict[str, Any]:
    """Where units fire strongly against their own corpus. Positions before `first` (a BOS) are left out.

    Returns `sites`, in the model's order; `fires` [sites][tokens]: how many of the site's units exceed their own 99.9th percentile;
    `strongest`, a list for each token of at most STRONGEST `{site, unit, value, percentile_band, ratio_to_max}`, by the ratio of the
    activation to the largest one that the unit had in the corpus (units that were never positive there are left out).
    """
    fires: dict[Site, list[int]] = {}
    found: list[_Candidates] = [[] for _ in tokens[first:]]

    def handler(site: Site) -> Callable[[Tensor], None]:
        return lambda activations: keep(site, bases[site].read(activations[0, first:]).float().cpu().numpy())

    def keep(site: Site, values: Floats) -> None:
        known = thresholds[site]
        fires[site] = (values > known.p999).sum(axis=1).tolist()
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = np.where((known.max > 0) & (values > 0), values / known.max, 0)
        count = min(STRONGEST, ratios.shape[1])
        best = np.argpartition(ratios, -count, axis=1)[:, -count:]
        for row, units in enumerate(best):
            found[row] += [(float(ratios[row, unit]), site, int(unit), float(values[row, unit])) for unit in units if ratios[row, unit] > 0]

    subject.read(torch.tensor([tokens]), {site: handler(site) for site in thresholds})
    sites = in_order(thresholds)
    strongest: list[list[dict[str, Any]]] = []
    for candidates in found:
        candidates.sort(key=lambda item: (-item[0], item[1], item[2]))
        strongest.append(
            [
                {
                    "site": str(site),
                    "unit": unit,
                    "value": value,
                    "percentile_band": thresholds[site].band(unit, value),
                    "ratio_to_max": ratio,
                }
                for ratio, site, unit, value in candidates[:STRONGEST]
            ]
        )
    return {"sites": [str(site) for site in sites], "fires": [fires[site] for site in sites], "strongest": strongest}


def _read_unit(subject: Subject, basis: Basis, tokens: list[int], unit: int) -> Floats:
    """The unit's activation on every token, float32, shape (tokens,)."""
    return basis.read(subject.capture(torch.tensor([tokens]), [basis.site])[basis.site][0])[:, unit].float().cpu().numpy()


def _encode(subject: Subject, index: IndexInfo, args: Mapping[str, Any]) -> tuple[list[int], int]:
    """The text's tokens with the slice's BOS before them when it has one, and where the text begins. Raises AtlasError."""
    text = _text(args, "text").encode("utf8", "replace").decode("utf8")
    limit = args.get("max_tokens", MAX_TOKENS)
    first = int(index.slice["bos"])
    if not isinstance(limit, int) or limit < 1:
        raise AtlasError("The limit of tokens must be a whole number from 1.")
    limit = min(limit, subject.info.context_limit - first)
    tokens = subject.encode([text])[0] if text else []
    if not tokens:
        raise AtlasError("The text is empty: write or paste a few words.")
    if len(tokens) > limit:
        raise AtlasError(f"The text has {len(tokens):,} tokens and at most {limit:,} can be read at once: shorten it.")
    if not first:
        return tokens, 0
    if subject.info.bos_token_id is None:
        raise AtlasError(
            f"The run “{index.run}” puts a BOS token before its contexts, which {subject.info.slug} does not have: index it again."
        )
    return [subject.info.bos_token_id, *tokens], 1


def _said(index: IndexInfo, key: str) -> Any:
    """What the run's provenance says, of itself or of its subject."""
    provenance = index.provenance
    subject = provenance.get("subject")
    inner = cast(dict[str, Any], subject) if isinstance(subject, dict) else {}
    return provenance.get(key) or inner.get(key)


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str):
        raise AtlasError(f"The question needs “{name}”, a text.")
    return value
