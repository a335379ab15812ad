"""The example neurons of the prompts: invented texts with invented activations, already on the scale 0 to 10.

As in Bills et al. 2023 there are three, with two records each. Fewer than 20 % of the activations of the first two are non-zero, more of
the third's: so an explainer sees a prompt with the zero-filtered repeat and one without. Texts and values are this project's own.
"""

from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class ExampleRecord:
    """Tokens and their activations, both of the length (tokens,). revealed: the first token whose value a simulator's prompt shows."""

    pieces: tuple[str, ...]
    values: tuple[int, ...]
    revealed: int


@dataclass(frozen=True)
class ExampleNeuron:
    """What a good answer about the neuron is, and the records it is about."""

    explanation: str
    records: tuple[ExampleRecord, ...]


def _record(revealed: int, marked: str) -> ExampleRecord:
    """Read `one| token=7| another`: tokens between bars, a non-zero activation after `=`."""
    pieces: list[str] = []
    values: list[int] = []
    for token in marked.split("|"):
        piece, _, value = token.partition("=")
        pieces.append(piece)
        values.append(int(value or 0))
    return ExampleRecord(tuple(pieces), tuple(values), revealed)


_TOOLS = (
    _record(
        9,
        "My| grandfather| kept| a| heavy| hammer=9| and| two| old| chis=7|els=8| in| the| drawer| below| the| window|,| and| nobody| else"
        "| was| allowed| to| borrow| the| saw=10| before| the| shed| had| been| swept| and| locked|.",
    ),
    _record(
        14,
        "To| open| the| case| you| need| a| small| screw=6|driver=9|.| Lift| the| cover| slowly|,| put| the| four| bolts| in| a| cup|,| and"
        "| loosen| the| last| one| with| the| wrench=10| that| came| in| the| box|.",
    ),
)
_TURNS = (
    _record(
        12,
        "The| museum| was| cold| and| almost| empty| when| we| arrived| that| morning|,| but=10| the| guide| had| lit| a| stove| and| told"
        "| us| about| every| painting|.| Later| it| rained|;| we| stayed|,| though=6|,| until| the| doors| closed|.",
    ),
    _record(
        6,
        "Sales| rose| by| a| third| in| spring|.| However=9|,| the| new| factory| opened| two| months| late|,| and| the| costs| of| steel"
        "| went| up| again|.| Yet=8| the| board| expects| a| better| second| half|.",
    ),
)
_SEA = (
    _record(
        0,
        "At| dawn| the| sail=8|ors=7| raised| the| anchor=10| and| the| ship=9| left| the| harbor=8|.| Waves=6| broke| over| the| deck=7|"
        " while| the| captain=5| watched| the| tide=6| and| steered| between| the| rocks=2| toward| the| open| ocean=9|.",
    ),
    _record(
        11,
        "Our| ferry=8| was| late|,| so| we| sat| on| the| pier=7| and| counted| gulls=4|.| A| fishing=3| boat=9| came| in| with| torn|"
        " nets=4|,| then| a| yacht=9| with| a| blue| mast=7|,| and| at| last| ours|.",
    ),
)


@cache
def example_neurons() -> tuple[ExampleNeuron, ...]:
    """The three examples, in the order in which prompts show them."""
    return (
        ExampleNeuron("names of tools that are held in the hand", _TOOLS),
        ExampleNeuron("words that turn a sentence against what was said before, such as 'but'", _TURNS),
        ExampleNeuron("words about ships, sailing and the sea", _SEA),
    )


EXAMPLES = len(example_neurons())
SEEN_TOKENS = ("orange", " purple", " green", "Blue", " scarlet", " grey", " violet", " yellow", " navy", " teal")
"""A list of tokens as the token-list explainer's example shows it, and what they have in common."""
SEEN_ANSWER = "names of colors"
PROMOTED_TOKENS = (" Monday", " Friday", " weekend", "Tuesday", " afternoon", " March", " noon", " yesterday")
SUPPRESSED_TOKENS = (" the", " of", "ing", " several", " which")
PROMOTED_ANSWER = "words that say when something happens, such as days and times of day"
