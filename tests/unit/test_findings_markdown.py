"""Notes are rendered without loading anything, and without a link that a script or a file could hide behind."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.findings.markdown import inert

BREAK = "\u200b"


@pytest.mark.parametrize(
    "text",
    [
        "plain *stars* and **bold**, 3 < 4, a[0], f(x): y",
        "[a](https://example.com/a:b?c#d) [b](<http://example.com>) <https://example.com>",
        "[unit](/unit?unit=tiny/mlp.0/neurons/1) [here](#below) [mail](mailto:a@example.com)",
        "[r]: https://example.com\n[r]",
        "`code ](x)` and | a | table |",
    ],
)
def test_what_is_harmless_stays_as_it_is(text: str) -> None:
    assert inert(text) == text


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)", "JaVaScRiPt:alert(1)", "javascript&#58;alert(1)", "javascript&colon;alert(1)", "java&#9;script:alert(1)",
        "javascript\\:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd", "blob:x", "&#1;javascript:x", "&#x200b;data:x",
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", ["[x]({})", "[x](<{}>)", "[x](\n {} 'title')", "[x]: {}", "> [x]:\n  {}", "![x]({})", "[a [b](c)]({})"])
def test_a_link_to_anything_else_is_broken_up(shape: str, target: str) -> None:
    found = inert(shape.format(target))
    before = found[: found.index(target)]
    assert f"]{BREAK}" in before
    assert found.replace(BREAK, "") == shape.format(target), "and only that"


@pytest.mark.parametrize("target", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd"])
def test_an_address_between_angles_too(target: str) -> None:
    assert inert(f"see <{target}>.") == f"see <{BREAK}{target}>."


@given(st.text(alphabet="![]()<>:&\\/ab#;\n", max_size=40))
def test_no_image_is_left_whatever_is_written(text: str) -> None:
    found = inert(text)
    assert "![" not in found
    assert found.replace(BREAK, "") == text.replace(BREAK, "")
    assert inert(found) == found
