r"""How words and their numbers are written in a sentence, as `sentence.py` reads them and the pages show them: *fight/\*/not all* 10–6."""

import re

WORDS = r"(?:\\.|[^*\\\n])+"
"""What may stand between two stars."""
NUMBER = r"[−–+-]?\d{1,2}"
"""A number without brackets after them."""
DASH = "[–—-]"
"""Between two of them."""
END = r"(?=\s*(?:[,;:!?()*]|\.(?!\d)|$|\n)|\s+(?:and|or)\b)"
"""What has to follow, so that the 3 in “*cats* 3 times” is none."""
_SLASHED = re.compile(r"(?:\\.|[^\\/])+")


def slashed(words: str) -> list[str]:
    """What stands between two stars, taken apart at the slashes, with its escapes."""
    return _SLASHED.findall(words) or [words]


def unescaped(word: str) -> str:
    """A word as it is meant."""
    return re.sub(r"\\(.)", r"\1", word)
