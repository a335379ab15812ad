"""Sentences about an indirect object, and what each becomes when the object is somebody else. No torch.

“Then Anna and Mark went to the market, and Mark gave a book to” goes on with “Anna”, the indirect object; “Mark”, the subject of the
sentence, stands in it twice. The task is that of Wang et al. 2022 (indirect object identification); the frames, places, objects and
names here are our own. ABBA: the indirect object is named first. BABA: the subject is.

As in Cunningham et al. 2023, section 4, the counterfactual names a third person in place of the indirect object and keeps the subject, and
both sentences end before the answer.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from core.corpus.spec import check_whole
from core.errors import AtlasError, shown

Order = Literal["ABBA", "BABA"]
ORDERS: tuple[Order, ...] = get_args(Order)
Encode = Callable[[list[str]], list[list[int]]]
"""Token ids of each text, with nothing added."""

MAX_PAIRS = 1000
MAX_SEED = 2**31 - 1
MAX_CHOICES = 400
_LONGEST = 240
_LONGEST_WORD = 40
_HOLDER = re.compile(r"\{(\w*)\}")
_BEFORE = "and"
"""A name is encoded after this word, as it stands in a sentence: some tokenizers treat the beginning of a text in their own way."""

_FRAMES = (
    "At the {PLACE}, {0} met {1}, and {S} gave a {OBJECT} to",
    "Near the {PLACE}, {0} saw {1}, and {S} handed a {OBJECT} to",
    "On the way to the {PLACE}, {0} joined {1}, and {S} showed a {OBJECT} to",
    "Yesterday at the {PLACE}, {0} helped {1}, so {S} gave the {OBJECT} to",
    "Outside the {PLACE}, {0} greeted {1}, and {S} brought a {OBJECT} to",
    "Behind the {PLACE}, {0} and {1} played, and {S} threw a {OBJECT} to",
    "In front of the {PLACE}, {0} and {1} met, and {S} lent a {OBJECT} to",
    "Inside the {PLACE}, {0} and {1} talked, and {S} sold the {OBJECT} to",
    "After the visit to the {PLACE}, {0} and {1} rested, and {S} passed the {OBJECT} to",
    "When {0} and {1} left the {PLACE}, {S} offered a {OBJECT} to",
)
"""What comes before the names costs nothing when features are patched, and every word after them does: so they stand late."""
TEMPLATES = tuple(
    frame.replace("{0}", first).replace("{1}", second) for first, second in (("{IO}", "{S}"), ("{S}", "{IO}")) for frame in _FRAMES
)
PLACES = ("market", "station", "library", "garden", "office", "theatre", "school", "museum", "park", "hotel")
OBJECTS = ("book", "letter", "ring", "ball", "key", "map", "drink", "camera", "ticket", "watch")
NAMES = (
    "Adam", "Alan", "Alex", "Alice", "Amy", "Andrew", "Anna", "Anne", "Anthony", "Arthur", "Ben", "Bill", "Bob", "Brian", "Carl",
    "Charles", "Charlie", "Chris", "Christian", "Claire", "Daniel", "David", "Edward", "Elizabeth", "Emily", "Emma", "Eric", "Frank",
    "Fred", "George", "Grace", "Graham", "Greg", "Helen", "Henry", "Ian", "Jack", "Jacob", "James", "Jane", "Jason", "Jeff", "Jennifer",
    "Jessica", "Jim", "Joe", "John", "Jonathan", "Joseph", "Justin", "Karen", "Kate", "Kevin", "Kim", "Laura", "Lewis", "Linda", "Lisa",
    "Louis", "Louise", "Lucy", "Luke", "Marcus", "Maria", "Mark", "Martin", "Mary", "Matthew", "Max", "Michael", "Michelle", "Mike",
    "Nick", "Oliver", "Oscar", "Patrick", "Paul", "Peter", "Philip", "Rachel", "Ray", "Richard", "Robert", "Roger", "Ruth", "Ryan",
    "Sam", "Samuel", "Sarah", "Scott", "Simon", "Stephen", "Steve", "Susan", "Thomas", "Tim", "Tom", "Tony", "Victoria", "Walter",
    "William",
)  # fmt: skip


@dataclass(frozen=True)
class Wording:
    """What sentences are made of. Raises AtlasError for frames and words that cannot make one.

    templates: with {IO} once and {S} twice, {PLACE} and {OBJECT} where wanted, each after a space; the answer is what comes next.
    """

    templates: tuple[str, ...] = TEMPLATES
    names: tuple[str, ...] = NAMES
    places: tuple[str, ...] = PLACES
    objects: tuple[str, ...] = OBJECTS

    def __post_init__(self) -> None:
        for what, found in (("template", self.templates), ("name", self.names), ("place", self.places), ("object", self.objects)):
            _check_words(what, found, _LONGEST if what == "template" else _LONGEST_WORD)
        if len(set(self.names)) < 3:
            raise AtlasError("A sentence and its counterfactual need three names: give at least three different ones.")
        for template in self.templates:
            _check_template(template)

    @classmethod
    def from_json(cls, given: object) -> Self:
        """Read what `to_json` wrote, or what a person typed; what is left out is our own. Raises AtlasError."""
        if not isinstance(given, Mapping):
            raise AtlasError("The wording of the sentences is damaged: give lists of templates, names, places and objects.")
        known = [one.name for one in fields(cls)]
        for name, value in given.items():
            if name not in known:
                raise AtlasError(f"The wording of the sentences has no “{shown(str(name))}”: use {', '.join(known)}.")
            if value is not None and not isinstance(value, list | tuple):
                raise AtlasError(f"The {name} of the sentences must be a list.")
        return cls(**{name: tuple(value) for name, value in given.items() if value is not None})

    def to_json(self) -> dict[str, list[str]]:
        return {one.name: list(getattr(self, one.name)) for one in fields(self)}

    @property
    def own_names(self) -> bool:
        """Whether a person chose the names."""
        return self.names != NAMES


@dataclass(frozen=True)
class Pair:
    """A sentence without its last word, and its counterfactual. io, s, other: the names; the words that would follow are io and other."""

    order: Order
    template: str
    base: str
    counterfactual: str
    io: str
    s: str
    other: str


@dataclass(frozen=True)
class EncodedPair:
    """A pair in tokens: base and counterfactual of one length, and the tokens of the three names. first: where the two begin to differ."""

    pair: Pair
    base: tuple[int, ...]
    counterfactual: tuple[int, ...]
    io: int
    s: int
    other: int
    first: int


def order_of(template: str) -> Order:
    """Whether the indirect object or the subject is named first."""
    return "ABBA" if template.index("{IO}") < template.index("{S}") else "BABA"


def draw(wording: Wording, names: Sequence[str], pairs: int, seed: int) -> list[Pair]:
    """`pairs` different sentences by turns ABBA and BABA (where there are frames of both), the same for the same seed.

    names: those that may be used. Raises AtlasError when so many different ones cannot be made.
    """
    check_whole("The number of pairs", pairs, 1, MAX_PAIRS)
    check_whole("The seed", seed, 0, MAX_SEED)
    if len(set(names)) < 3:
        raise AtlasError("A sentence and its counterfactual need three names: give at least three that the model knows as single tokens.")
    by_order = [[one for one in wording.templates if order_of(one) == order] for order in ORDERS]
    by_order = [templates for templates in by_order if templates]
    chance = random.Random(seed)
    found: dict[str, Pair] = {}
    for _ in range(50 * pairs):
        if len(found) == pairs:
            break
        template = chance.choice(by_order[len(found) % len(by_order)])
        io, s, other = chance.sample(sorted(set(names)), 3)
        words = {"PLACE": chance.choice(wording.places), "OBJECT": chance.choice(wording.objects), "S": s}
        base = template.format(IO=io, **words)
        found.setdefault(base, Pair(order_of(template), template, base, template.format(IO=other, **words), io, s, other))
    if len(found) < pairs:
        raise AtlasError(f"From these words only about {len(found):,} different sentences can be made: give more, or ask for fewer pairs.")
    return list(found.values())


def single_tokens(names: Sequence[str], encode: Encode) -> dict[str, int]:
    """The names that are one token each inside a sentence, and those tokens; a name whose token another has is left out."""
    alone, *inside = encode([_BEFORE, *(f"{_BEFORE} {name}" for name in names)])
    found = {name: ids[-1] for name, ids in zip(names, inside, strict=True) if len(ids) == len(alone) + 1 and ids[:-1] == alone}
    tokens = list(found.values())
    return {name: token for name, token in found.items() if tokens.count(token) == 1}


def usable_names(wording: Wording, encode: Encode) -> tuple[dict[str, int], list[str]]:
    """The names that may be used and their tokens, and those that are left out. Raises AtlasError for a person's own that cannot."""
    names = list(dict.fromkeys(wording.names))
    tokens = single_tokens(names, encode)
    dropped = [name for name in names if name not in tokens]
    if wording.own_names and dropped:
        raise AtlasError(f"“{shown(dropped[0])}” is not a single token of this model after a space: leave that name out.")
    if len(tokens) < 3:
        raise AtlasError("Fewer than three of our names are single tokens of this model: give names of your own that are.")
    return tokens, dropped


def encode_pairs(pairs: Sequence[Pair], tokens: Mapping[str, int], encode: Encode, start: Sequence[int] = ()) -> list[EncodedPair]:
    """The pairs in tokens. tokens: of their names. start: what every text begins with (a BOS, or nothing).

    Raises AtlasError for a pair whose sentences differ in length, or that holds the answer's token where it should not.
    """
    bases, others = encode([pair.base for pair in pairs]), encode([pair.counterfactual for pair in pairs])
    found: list[EncodedPair] = []
    for pair, base, other in zip(pairs, bases, others, strict=True):
        if len(base) != len(other):
            raise AtlasError(
                f"“{shown(pair.base)}” has {len(base)} tokens and its counterfactual {len(other)}: leave out {pair.io} or {pair.other}."
            )
        differ = [place for place, (one, two) in enumerate(zip(base, other, strict=True)) if one != two]
        kept = base.count(tokens[pair.io]) == 1 and other.count(tokens[pair.other]) == 1 and base.count(tokens[pair.s]) >= 2
        if len(differ) != 1 or not kept or differ[0] == len(base) - 1:
            raise AtlasError(
                f"The names in “{shown(pair.base)}” are not tokens of their own there: put a space before and no letters after."
            )
        start_ = tuple(start)
        found.append(
            EncodedPair(
                pair, (*start_, *base), (*start_, *other), tokens[pair.io], tokens[pair.s], tokens[pair.other], len(start_) + differ[0]
            )
        )
    return found


def _check_words(what: str, found: object, longest: int) -> None:
    if not isinstance(found, tuple) or not found:
        raise AtlasError(f"No {what} was given: sentences need at least one.")
    if len(found) > MAX_CHOICES:  # pyright: ignore[reportUnknownArgumentType]
        raise AtlasError(f"{len(found):,} {what}s were given: at most {MAX_CHOICES} are taken.")  # pyright: ignore[reportUnknownArgumentType]
    word: Any
    for word in found:  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(word, str) or not word.strip() or word != word.strip() or not word.isprintable():
            raise AtlasError(f"“{shown(str(word))}” is not a {what} for a sentence: write it without spaces around it.")
        if len(word) > longest:
            raise AtlasError(f"The {what} “{shown(word)}” has {len(word)} characters: at most {longest} are taken.")
        if what != "template" and ("{" in word or "}" in word):
            raise AtlasError(f"“{shown(word)}” is not a {what} for a sentence: braces belong into templates.")


def _check_template(template: str) -> None:
    holders = _HOLDER.findall(template)
    if holders.count("IO") != 1 or holders.count("S") != 2:
        raise AtlasError(f"The template “{shown(template)}” must have {{IO}} once and {{S}} twice, where the names come.")
    strange = [one for one in holders if one not in ("IO", "S", "PLACE", "OBJECT")]
    if strange or _HOLDER.sub("", template).count("{") or _HOLDER.sub("", template).count("}"):
        raise AtlasError(f"The template “{shown(template)}” may have {{IO}}, {{S}}, {{PLACE}} and {{OBJECT}} in braces and nothing else.")
    for match in re.finditer(r"\{(IO|S)\}", template):
        if match.start() == 0 or template[match.start() - 1] != " " or template[match.end() : match.end() + 1].isalnum():
            raise AtlasError(f"In the template “{shown(template)}” each name must follow a space and end before a letter comes.")
    if template.endswith(("{IO}", "{S}")):
        raise AtlasError(f"The template “{shown(template)}” must end before the answer, such as with “to”.")
