"""The parameters of a training run: what is refused, what they mean, what they cost."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.bases.curves import CurveWriter, load_curves
from core.bases.train_request import TrainRequest, estimate
from core.errors import AtlasError

MODEL = {"model": "default"}


def test_params_read_back_as_the_same_request() -> None:
    request = TrainRequest.from_params({**MODEL, "site": "attn.3", "head": 1, "alphas": [0.5, 1], "mse_reduction": "mean", "k_aux": 5})
    assert TrainRequest.from_params(json.loads(json.dumps(request.params()))) == request


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"site": "resid"}, "is not a site"),
        ({"site": 9}, "is not a site"),
        ({"head": 1}, "has no heads"),
        ({"kind": "gated"}, "choose tied or topk"),
        ({"mse_reduction": "both"}, "choose sum or mean"),
        ({"centre": "all"}, "choose none or per_token"),
        ({"ratio": 0}, "The ratio must be a number"),
        ({"ratio": float("nan")}, "The ratio must be a number"),
        ({"alphas": []}, "Give one alpha or several"),
        ({"alphas": 1.0}, "Give one alpha or several"),
        ({"alphas": [1.0, 1.0]}, "are the same number"),
        ({"alphas": [-1.0]}, "Alpha must be a number"),
        ({"alphas": [True]}, "Alpha must be a number"),
        ({"kind": "topk", "alphas": [1, 2]}, "has no alpha"),
        ({"kind": "topk", "revive": True}, "auxiliary term"),
        ({"k": 0}, "k must be a whole number"),
        ({"tokens": 1e6}, "must be a whole number"),
        ({"lr": "fast"}, "The learning rate must be a number"),
        ({"warmup": 0.6, "decay": 0.6}, "together at most 1"),
        ({"buffer": 100}, "too small to mix"),
        ({"name": "neurons"}, "the name of the plain neurons"),
        ({"name": "My SAE"}, "is not the name of a basis"),
        ({"name": 5}, "is not the name of a dictionary"),
        ({"epochs": 2}, "has no parameter “epochs”"),
        ({"scale": 0}, "The scale must be a number"),
        ({"bias_rate": -1}, "The biases' multiple of the learning rate"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_sentence(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(AtlasError, match=said):
        TrainRequest.from_params({**MODEL, **wrong})


def test_a_dictionary_of_too_few_units_for_k_is_refused() -> None:
    with pytest.raises(AtlasError, match="k is 64, but there are only 32 units"):
        TrainRequest(kind="topk", k=64, ratio=1).units(32)


def test_several_alphas_have_names_of_their_own() -> None:
    assert TrainRequest(name="sae", alphas=(0.5,)).names() == ("sae",)
    assert TrainRequest(name="sae", alphas=(0.5, 1e-5, 2)).names() == ("sae-a0.5", "sae-a1e-05", "sae-a2")


def test_the_rate_rises_stays_and_falls_to_nearly_nothing() -> None:
    request = TrainRequest(tokens=100 * 1024, batch=1024, lr=0.01, warmup=0.1, decay=0.2)
    rates = [request.rate(step) for step in range(request.steps)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[9:80] == pytest.approx([0.01] * 71)
    assert rates[99] == pytest.approx(0.0005)
    assert rates[80:] == sorted(rates[80:], reverse=True)


def test_memory_grows_with_what_it_is_for_and_not_with_the_text() -> None:
    base = estimate(TrainRequest(), 576)
    assert estimate(TrainRequest(tokens=10**9), 576).bytes == base.bytes
    assert estimate(TrainRequest(buffer=131_072), 576).buffer_bytes - base.buffer_bytes == 65_536 * (4 * 576 + 24)
    two = estimate(TrainRequest(alphas=(1.0, 2.0)), 576)
    assert (two.weight_bytes, two.pass_bytes) == (2 * base.weight_bytes, base.pass_bytes)
    assert estimate(TrainRequest(tokens=2_000_000), 576).step_flops > 1.9 * base.step_flops
    assert base.seconds(1000, 1e11) > base.forward_flops / 1000


def test_curves_are_cut_back_to_a_checkpoint_and_half_a_line_is_not_read(tmp_path: Path) -> None:
    assert load_curves(tmp_path) == []
    writer = CurveWriter(tmp_path)
    writer.add([{"tokens": 1}])
    size = writer.size
    writer.add([{"tokens": 2}])
    (tmp_path / "curves.jsonl").open("ab").write(b'{"tokens": 3')
    assert [line["tokens"] for line in load_curves(tmp_path)] == [1, 2]
    CurveWriter(tmp_path, size).add([{"tokens": 9}])
    assert [line["tokens"] for line in load_curves(tmp_path)] == [1, 9]
