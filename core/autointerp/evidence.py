"""What is known of a unit, dealt out: records to explain from, records to score on, and the positions a pattern may be fitted to."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from core.autointerp.corpus_counts import SliceCounts
from core.autointerp.explanation import Example, Text
from core.autointerp.fit import Labelled, gather
from core.autointerp.gram_sums import Arranged
from core.autointerp.reading import Reading, check_text
from core.autointerp.request import MANY, ExplainerChoice, Setting, tokens_to_read
from core.autointerp.splits import Split, Splits, example, split_records, with_activity
from core.errors import AtlasError
from core.store.catalog import IndexInfo, find_unit
from core.store.explanation_view import load_explanation
from core.store.texts import load_slice, load_vocab
from core.store.units import Record, UnitView, load_unit
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace

_REMEMBERED = 256
_AT_HAND = 8
"""Evidence that is kept with its arrays as long as a second reading."""
QUANTILE_BANDS = ("q3", "q2", "q1", "q0")
UNSEEING = ("by-hand", "logit-effect")
"""Explainers that are given no activations."""


class NoRecord(AtlasError):
    """There is nothing to explain a unit from."""


@dataclass(frozen=True)
class Evidence:
    """One unit as explainers and scorers may see it. What is held out for scoring is never given to an explainer."""

    view: UnitView
    vocab: Vocab
    counts: SliceCounts
    splits: Splits
    arranged: Arranged | None = None

    @cached_property
    def excluded(self) -> npt.NDArray[np.int64]:
        """The numbers of the documents that are held out."""
        held = {record.document for record in self.splits.held_out()}
        return np.flatnonzero([name in held for name in self.counts.text.document_ids])

    @cached_property
    def free(self) -> tuple[Record, ...]:
        """All records, of any band, whose documents are not held out; the training records first."""
        held = {record.document for record in self.splits.held_out()}
        others = [record for band in self.view.bands.values() for record in band if record.document not in held]
        return tuple({record.context: record for record in [*self.splits.train, *others]}.values())

    @cached_property
    def labelled(self) -> Labelled:
        """Every known activation outside the held-out documents."""
        return gather(self.view, self.counts, self.free, self.excluded, self.arranged)

    def scored_on(self, split: Split) -> list[Example]:
        """The records of a split, the top ones first."""
        return [example(record, self.vocab) for record in self.splits.of(split)]

    def shown(self, choice: ExplainerChoice) -> list[Example]:
        """The records that an explainer is shown: of the wanted source, held-out documents left out, cut to the wanted length.

        `top`: the training records, then other strong ones. `random`: random records that are not scored on. `quantile`: records whose
        maximum lies at or above the quantile, those nearest to it first. Raises NoRecord when there is none.
        """
        held = {record.document for record in self.splits.held_out()}
        bands = self.view.bands
        if choice.source == "top":
            found = [*self.splits.train, *bands.get("q3", []), *bands.get("q2", [])]
        elif choice.source == "random":
            found = [*bands.get("random", []), *bands.get("q0", []), *bands.get("q1", [])]
        else:
            sampled = [record for band in QUANTILE_BANDS for record in bands.get(band, [])]
            found = [record for record in sampled if record.quantile is not None and record.quantile >= choice.quantile]
            found.sort(key=lambda record: abs((record.quantile or 0.0) - choice.quantile))
        kept = {record.context: record for record in found if record.document not in held}
        chosen = [cut(example(record, self.vocab), choice.length) for record in list(kept.values())[: choice.records]]
        if not chosen:
            raise NoRecord(f"{self.view.name} has no record to explain it from: index more text.")
        return chosen


def cut(shown: Example, length: int) -> Example:
    """A window of `length` tokens (0: all) around the peak, with twice as much before it as after it: activations depend on the left."""
    whole = len(shown.text)
    if not 0 < length < whole:
        return shown
    peak = int(np.argmax(shown.activations))
    start = max(0, min(peak - (2 * length) // 3, whole - length))
    part = slice(start, start + length)
    text = Text(shown.text.ids[part], shown.text.pieces[part])
    return Example(shown.origin, shown.context, shown.document, text, shown.activations[part])


class Library:
    """Evidence by unit and setting, with what is shared between units kept in memory."""

    def __init__(self, workspace: Workspace, units: int = MANY) -> None:
        """units: of the run, which decide whether a setting that leaves it open wants a second reading."""
        self.workspace, self._units = workspace, units
        self._counts: dict[tuple[str, int], SliceCounts] = {}
        self._readings: dict[str, Arranged] = {}
        self._kept: dict[str, int] = {}
        self._evidence: OrderedDict[tuple[UnitName, str, int, bool, bool, str], Evidence] = OrderedDict()
        self._views: OrderedDict[tuple[UnitName, str], UnitView] = OrderedDict()

    def evidence(self, unit: UnitName, setting: Setting) -> Evidence:
        """Raises AtlasError: the unit is not indexed, a file is damaged, or the explanation to score again is not there.

        An earlier explanation is scored on no document that it may have been made from, whatever was held out then.
        """
        name, index = self.locate(unit, setting)
        # All that evidence depends on: most settings of a run, and a unit and its neighbour's shuffled control, share theirs.
        given = setting.explainer.given if setting.explainer.name == "given" else ""
        key = (name, index.run, setting.each, setting.active_only, self._wanted(index, setting) is None, given)
        found = self._evidence.get(key)
        if found is None:
            found = self._evidence[key] = self._deal_out(name, index.run, setting)
            if len(self._evidence) > _AT_HAND:
                self._evidence.popitem(last=False)
        self._evidence.move_to_end(key)
        return found

    def _deal_out(self, name: UnitName, run: str, setting: Setting) -> Evidence:
        view = self._view(name, run)
        arranged = self._wanted(view.index, setting)
        counts = self.counts(view.index) if arranged is None else arranged.counts
        random: Sequence[Record] = view.bands.get("random", [])
        if setting.active_only:
            spread = zip(*(view.bands.get(band, []) for band in reversed(QUANTILE_BANDS)), strict=False)
            random = with_activity([*random, *(record for records in spread for record in records)])
        splits = split_records(view.bands.get("top", []), random, setting.each)
        if setting.explainer.name == "given":
            splits = splits.without(self._seen(setting.explainer.given))
        return Evidence(view, load_vocab(self.workspace, name.subject), counts, splits, arranged)

    def reads(self, setting: Setting, index: IndexInfo) -> int:
        """Tokens that a setting wants to be read again; where several of a run want some, all that do share the largest reading."""
        if index.run not in self._kept:  # asked once: a run goes on as it began, whatever is deleted meanwhile
            self._kept[index.run] = index.tokens_kept
        return tokens_to_read(setting.explainer.read, self._units, self._kept[index.run])

    def _wanted(self, index: IndexInfo, setting: Setting) -> Arranged | None:
        return self._readings.get(index.run) if self.reads(setting, index) else None

    def add(self, run: str, reading: Reading) -> None:
        """Use a second reading of an index run in all evidence from now on, but for settings that want none."""
        self._readings[run] = Arranged(reading)
        self._evidence.clear()

    def counts(self, index: IndexInfo) -> SliceCounts:
        """The counts of an index's slice, made once."""
        check_text(index)
        identity, first = str(index.slice["id"]), int(index.slice["bos"])
        if (identity, first) not in self._counts:
            self._counts[identity, first] = SliceCounts(load_slice(self.workspace, identity), first)
        return self._counts[identity, first]

    def locate(self, unit: UnitName, setting: Setting) -> tuple[UnitName, IndexInfo]:
        """The unit that a setting means, and the index that answers for it. Raises AtlasError."""
        name = UnitName(setting.subject or unit.subject, unit.site, unit.basis, unit.index)
        return name, find_unit(self.workspace, name, setting.index or None)

    def other(self, unit: UnitName, setting: Setting, seed: int) -> UnitName:
        """Another unit of the same site, drawn by a hash of the unit's name: whose words the shuffled control uses."""
        name, index = self.locate(unit, setting)
        width = index.units_at(name.site)
        if width < 2:
            raise AtlasError(f"{name.site} has a single unit: there is no other one for the shuffled control.")
        draw = np.random.default_rng([seed, name.index]).integers(width - 1)
        return UnitName(unit.subject, unit.site, unit.basis, int(draw + (draw >= name.index)))

    def _seen(self, identity: str) -> Callable[[str], bool]:
        """Whether an earlier explanation may have been made from a document: one that was not held out then. Raises AtlasError.

        From none for a person's words and for what was read off the output side. A second reading may have gone on to any document of the
        source. An explanation that was itself given, or revised, was made from more than one run's records; its own setting leads back
        to the first.
        """
        made = load_explanation(self.workspace, identity)
        if made.explainer in UNSEEING and "arm" not in made.recipe:
            return lambda _: False
        before = self.evidence(made.unit, replace(Setting.from_json(made.settings), index=made.index))
        held = {record.document for record in before.splits.held_out()}
        if made.recipe.get("read_again"):
            return lambda document: document not in held
        return (set(before.counts.text.document_ids) - held).__contains__

    def _view(self, name: UnitName, run: str) -> UnitView:
        key = (name, run)
        if key not in self._views:
            self._views[key] = load_unit(self.workspace, name, run)
            if len(self._views) > _REMEMBERED:
                self._views.popitem(last=False)
        return self._views[key]
