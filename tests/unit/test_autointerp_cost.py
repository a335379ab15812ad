"""What is told before a run: no calls without a model, as many as will be made with one, prices added up."""

from dataclasses import replace

import pytest

from core.autointerp.cost import cost
from core.autointerp.request import ExplainerChoice, ExplainRequest, Setting, SimulatorChoice
from core.autointerp.studies import study_settings
from core.errors import AtlasError
from core.llm.endpoint import Endpoint
from core.units import UnitName

PRICED = Endpoint("http://127.0.0.1:9/v1", "big", price_in=1.0, price_out=10.0)
HERE = Endpoint("in-process", "smollm2-135m-instruct")
UNITS = tuple(UnitName.parse(f"tiny/mlp.0/neurons/{n}") for n in range(3))
CHAT = Setting(explainer=ExplainerChoice("token-activation", PRICED), simulator=SimulatorChoice("chat", PRICED))


def asked(setting: Setting, units: int = 1, tokens: int = 63) -> "tuple[int, float | None]":
    found = cost(ExplainRequest(UNITS[:units], (setting,)), tokens)
    return found.asked.calls, found.asked.money


def test_nothing_is_asked_without_a_model() -> None:
    found = cost(ExplainRequest(UNITS, (Setting(), Setting(simulator=SimulatorChoice("sentence")))), 63)
    assert (found.asked.calls, found.loaded) == (0, 0)
    assert "nothing to pay" in str(found)


def test_calls_are_counted_by_what_is_simulated() -> None:
    """One explanation; ten records for it and ten for the shuffled control."""
    assert asked(CHAT)[0] == 1 + 20
    assert asked(CHAT, units=3)[0] == 3 * 21
    assert asked(replace(CHAT, controls=()))[0] == 1 + 10
    assert asked(replace(CHAT, controls=("lookup",)))[0] == 1 + 10
    assert asked(replace(CHAT, controls=("shuffled", "paraphrase")))[0] == 2 + 30
    assert asked(replace(CHAT, each=2))[0] == 1 + 8
    calibrated = replace(CHAT, simulator=replace(CHAT.simulator, calibration="linear"))
    assert asked(calibrated)[0] == 1 + 40
    assert asked(replace(CHAT, arm="re-explanation"))[0] == 2 + 2 * 2 * 20
    assert asked(replace(CHAT, arm="revision"))[0] == 3 + 2 * 2 * 20


def test_what_may_come_on_top_is_said_beside_the_least() -> None:
    completions = replace(CHAT, explainer=ExplainerChoice(), simulator=SimulatorChoice("completions", PRICED))
    said = {name: str(cost(ExplainRequest(UNITS, (setting,)), 63)) for name, setting in (("chat", CHAT), ("completions", completions))}
    assert "asked for again when its answer cannot be used; models that think first" in said["chat"]
    assert "writes 10 as 1 and 0" not in said["chat"]
    assert said["completions"].endswith(
        "This is the least: a tokenizer that writes 10 as 1 and 0 needs one more call wherever a 1 is likely."
    )
    here = replace(CHAT, explainer=ExplainerChoice("token-activation", HERE), simulator=SimulatorChoice("local", HERE))
    assert "least" not in str(cost(ExplainRequest(UNITS, (here,)), 63)), "models loaded here cost time only"


def test_longer_records_cost_more_and_a_structured_answer_more_than_an_echo() -> None:
    _, long = asked(CHAT, tokens=63)
    _, short = asked(CHAT, tokens=16)
    _, echoed = asked(replace(CHAT, simulator=SimulatorChoice("completions", PRICED)))
    assert long is not None
    assert short is not None
    assert echoed is not None
    assert 0 < short < long
    assert echoed < long


def test_a_missing_price_makes_the_sum_unknown_and_models_loaded_here_are_free() -> None:
    unpriced = replace(CHAT, simulator=SimulatorChoice("chat", Endpoint("http://127.0.0.1:9/v1", "other")))
    assert asked(unpriced) == (21, None)
    found = cost(ExplainRequest(UNITS[:1], (replace(CHAT, simulator=SimulatorChoice("local", HERE)),)), 63)
    assert (found.asked.calls, found.loaded) == (1, 20)
    assert found.asked.money is not None


def test_in_a_study_one_model_restates_under_every_setting() -> None:
    base = replace(CHAT, simulator=SimulatorChoice(), controls=("paraphrase",))
    assert [one.paraphraser for one in study_settings("explainer", base, [])] == [PRICED] * 4
    with pytest.raises(AtlasError, match="restates the explanation"):
        study_settings("layer", Setting(controls=("paraphrase",)), [])


def test_fewer_alternatives_can_be_asked_for_and_the_usual_number_is_not_written_down() -> None:
    assert SimulatorChoice("chat", PRICED, logprobs=5).checked().to_json()["logprobs"] == 5
    assert "logprobs" not in SimulatorChoice("chat", PRICED).to_json()
    for wrong in (0, 21):
        with pytest.raises(AtlasError, match="choose 1 to 20"):
            SimulatorChoice("chat", PRICED, logprobs=wrong).checked()
