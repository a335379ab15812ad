"""Features, what making a dictionary is expected to cost, and α in both conventions."""

from dataclasses import replace

from core.bases.train_request import TrainRequest
from core.runs.registry import Registry
from core.ui.dictionary_estimate import converted, forward_flops, train_expected, train_flops
from core.workspace import Workspace
from tests.pages.features.conftest import SHAPE


def test_time_is_told_by_an_earlier_run_of_the_same_model(workspace: Workspace) -> None:
    request = TrainRequest(site="mlp.1", model="tiny", tokens=100_000, ratio=2)
    assert "the time is unknown" in train_expected(request, SHAPE, [])
    done = Registry(workspace).submit("sae", TrainRequest(site="mlp.1", model="tiny", tokens=50_000, ratio=2, name="before").params())
    done = replace(done, state="done", started=100.0, finished=140.0, attempt=1)
    assert f"about 1 min 20 s at the speed of {done.id}" in train_expected(request, SHAPE, [done])
    other = replace(done, params={**done.params, "model": "another"})
    assert "the time is unknown" in train_expected(request, SHAPE, [other])


def test_work_grows_with_the_layer_the_units_and_the_alphas() -> None:
    base = TrainRequest(site="mlp.0", tokens=10_000)
    assert forward_flops(SHAPE, 1) == 2 * forward_flops(SHAPE, 0)
    assert train_flops(TrainRequest(site="mlp.1", tokens=10_000), SHAPE) > train_flops(base, SHAPE)
    assert train_flops(TrainRequest(site="mlp.0", tokens=10_000, alphas=(1.0, 2.0)), SHAPE) > train_flops(base, SHAPE)


def test_both_conventions_say_the_same_alpha() -> None:
    assert "mean of the squared errors, as in the paper's code: α 0.5 (d = 24)" in converted(
        TrainRequest(site="mlp.0", alphas=(12.0,)), SHAPE
    )
    assert "sum of the squared errors" in converted(TrainRequest(site="mlp.0", alphas=(0.5,), mse_reduction="mean"), SHAPE)
    assert converted(TrainRequest(site="mlp.0", kind="topk"), SHAPE) == ""
