"""The parameters of an index run: whatever stands in a params.json or was typed, it is a request or one sentence."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.index.request import IndexRequest

TEXT = {"source": "embedded", "contexts": 8}
USUAL: dict[str, Any] = {"model": "tiny", "corpus": TEXT}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workers": "2"}, "The number of workers must be a whole number from 1 to 64, not 2"),
        ({"workers": 2.0}, "The number of workers"),
        ({"workers": True}, "The number of workers"),
        ({"workers": 65}, "from 1 to 64"),
        ({"block": 0}, "contexts in a forward pass"),
        ({"publish_seconds": "soon"}, "seconds between two publications"),
        ({"publish_seconds": float("nan")}, "seconds between two publications"),
        ({"model": 5}, "No model was named"),
        ({"model": "  "}, "No model was named"),
        ({"model": "a\x00b"}, "No model was named"),
        ({"revision": ["main"]}, "is not a revision"),
        ({"sites": 3}, "is not a choice of sites"),
        ({"sites": ""}, "No site was chosen"),
        ({"dtype": "float8"}, "is not a number format"),
        ({"dtype": {}}, "is not a number format"),
        ({"device": "gpu"}, "is not a device"),
        ({"device": 0}, "is not a device"),
        ({"architecture": "blocks=a"}, "The architecture lacks mlp and attn"),
        ({"architecture": 7}, "does not name a module"),
        ({"corpus": None}, "needs a text"),
        ({"corpus": "embedded"}, "description of the text is damaged"),
        ({"corpus": {**TEXT, "source": " "}}, "No text was named"),
        ({"corpus": {**TEXT, "contexts": "8"}}, "The number of contexts"),
        ({"corpus": {**TEXT, "length": 1}}, "The context length"),
        ({"corpus": {**TEXT, "stride": 65}}, "The stride"),
        ({"corpus": {**TEXT, "source": "x\ny"}}, "unprintable"),
        ({"speed": 3}, "no parameter “speed”"),
    ],
    ids=str,
)
def test_a_parameter_that_makes_no_sense_is_one_sentence(change: dict[str, Any], said: str) -> None:
    with pytest.raises(AtlasError) as refused:
        IndexRequest.from_params(USUAL | change)
    assert said in str(refused.value)
    assert str(refused.value).endswith(".")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
_NAMES = [*IndexRequest.__dataclass_fields__, "other"]


_PARAMS = st.dictionaries(st.sampled_from(_NAMES), _JSON, max_size=4)
_TEXTS = st.dictionaries(st.sampled_from(["source", "length", "bos", "x"]), _JSON)


@given(_PARAMS, _TEXTS)
def test_no_json_whatever_is_an_internal_error(change: dict[str, Any], text: dict[str, Any]) -> None:
    try:
        request = IndexRequest.from_params(USUAL | {"corpus": TEXT | text} | change)
    except AtlasError:
        return
    assert IndexRequest.from_params(json.loads(json.dumps(request.params()))) == request


def test_equal_requests_have_equal_parameters_however_they_were_written() -> None:
    plain = IndexRequest(CorpusSpec("embedded", 8)).params()
    typed = {
        "model": " default ",
        "revision": "",
        "architecture": None,
        "device": "auto",
        "workers": 1,
        "corpus": {"source": " embedded", "contexts": 8, "split": "", "field": " ", "revision": None, "stride": None},
    }
    assert IndexRequest.from_params(typed).params() == plain
    assert set(plain) == {"model", "revision", "corpus", "sites", "dtype"}
    assert IndexRequest.from_params({**typed, "workers": 3, "device": "cuda:1"}).params() == plain | {"workers": 3, "device": "cuda:1"}
