"""Which records are for explaining, which for calibrating, which for scoring: disjoint by context and by document, by interleaved stride.

Of 20 top records in order of strength, ranks 0, 4, 8, 12, 16 are for training, 1, 5, … for calibration, 2, 6, … for validation and 3, 7, …
for the test; random records go in turn to calibration, validation and test (Bills et al. 2023; Cunningham et al. 2023, appendix A).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.autointerp.explanation import Example, Origin, Text
from core.autointerp.scoring import Kind
from core.store.units import Record
from core.vocab import Vocab

Split = Literal["calibration", "validation", "test"]
SPLITS: tuple[Split, ...] = ("calibration", "validation", "test")
EACH = 5
"""Records of each origin in a split."""


@dataclass(frozen=True)
class Splits:
    """A unit's records by the part they play. The three that are scored on hold top records, strongest first, then random ones."""

    train: tuple[Record, ...]
    calibration: tuple[Record, ...]
    validation: tuple[Record, ...]
    test: tuple[Record, ...]

    def held_out(self) -> tuple[Record, ...]:
        """Everything that an explainer may not see."""
        return (*self.calibration, *self.validation, *self.test)

    def without(self, seen: Callable[[str], bool]) -> "Splits":
        """The same without the held-out records of the documents that were seen."""
        return Splits(self.train, *(tuple(record for record in self.of(split) if not seen(record.document)) for split in SPLITS))

    def of(self, split: Split) -> tuple[Record, ...]:
        return {"calibration": self.calibration, "validation": self.validation, "test": self.test}[split]


def interleave(ranks: int, parts: int, each: int) -> list[list[int]]:
    """`parts` lists of at most `each` ranks, dealt out in turn."""
    return [list(range(part, ranks, parts))[:each] for part in range(parts)]


def split_records(top: Sequence[Record], random: Sequence[Record], each: int = EACH) -> Splits:
    """Deal out a unit's records. Of two from one document the first stays: top before random, in the order given."""
    documents: set[str] = set()

    def fresh(records: Sequence[Record]) -> list[Record]:
        kept: list[Record] = []
        for record in records:
            if record.document not in documents:
                documents.add(record.document)
                kept.append(record)
        return kept

    tops, randoms = fresh(top[: 4 * each]), fresh(random)
    train, *scored_tops = ([tops[rank] for rank in ranks] for ranks in interleave(len(tops), 4, each))
    scored_randoms = [[randoms[rank] for rank in ranks] for ranks in interleave(len(randoms), 3, each)]
    calibration, validation, test = ((*a, *b) for a, b in zip(scored_tops, scored_randoms, strict=True))
    return Splits(tuple(train), calibration, validation, test)


def with_activity(records: Sequence[Record]) -> list[Record]:
    """Those on which the unit's activation is not the same everywhere (Cunningham et al. 2023: “non-zero variation”)."""
    return [record for record in records if np.ptp(record.activations[record.first :]) > 0]


def example(record: Record, vocab: Vocab) -> Example:
    """A record as the parts of this package know it: without its BOS."""
    ids = record.tokens[record.first :].tolist()
    origin: Origin = "top" if record.band in ("top", "bottom") else "random"
    text = Text(tuple(ids), tuple(vocab.pieces(ids)))
    return Example(origin, record.context, record.document, text, record.activations[record.first :].astype(np.float64))


def of_kind(examples: Sequence[Example], kind: Kind) -> list[Example]:
    """The examples that a kind of score is over."""
    wanted = {"top-and-random": ("top", "random"), "top-only": ("top",), "random-only": ("random",)}[kind]
    return [example for example in examples if example.origin in wanted]
