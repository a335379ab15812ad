"""Endpoints are read or refused with a sentence; estimates add up."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from core.errors import AtlasError
from core.llm.endpoint import IN_PROCESS, Endpoint
from core.llm.estimate import Estimate, Load, estimate, tokens_of


def test_an_estimate_counts_calls_tokens_and_price() -> None:
    got = estimate([Load(100, 3000, 60, 3.0), Load(10, 300, 5.5, 3.0)], price_in=2.0, price_out=8.0)
    assert (got.calls, got.tokens_in, got.tokens_out) == (110, 101_000, 6_055)
    assert got.money == pytest.approx((101_000 * 2.0 + 6_055 * 8.0) / 1e6)


def test_the_estimate_is_the_endpoints_cost_of_its_own_counts() -> None:
    endpoint = Endpoint("http://localhost/v1", "m", price_in=0.15, price_out=0.6)
    got = estimate([Load(7, 1234, 56)], endpoint.price_in, endpoint.price_out)
    assert got.money == endpoint.cost(got.tokens_in, got.tokens_out)


def test_without_prices_there_is_no_price_rather_than_zero() -> None:
    free, paid = estimate([Load(1, 30, 1)]), estimate([Load(1, 30, 1)], 1.0, 1.0)
    assert free.money is None
    assert (free + paid).money is None
    assert "price" not in str(free)
    assert estimate([], 1.0, 1.0).money == 0.0
    assert Endpoint("http://localhost/v1", "m").cost(1, 1) is None


def test_estimates_of_several_endpoints_add_up() -> None:
    parts = [estimate([Load(n, 100 * n, n)], 1.0, 2.0) for n in range(1, 4)]
    total = sum(parts, Estimate())
    assert (total.calls, total.tokens_out, total.tokens_in) == (6, 14, sum(part.tokens_in for part in parts))


def test_the_line_is_readable_and_does_not_look_exact() -> None:
    assert str(Estimate(1200, 1_234_567, 61_999, 3.456)) == "1,200 calls, about 1,200,000 tokens read and 62,000 written, price about 3.46"
    assert str(Estimate(1, 42, 0, None)) == "1 call, about 42 tokens read and 0 written"


def test_tokens_are_rounded_up_and_a_ratio_of_nothing_is_refused() -> None:
    assert [tokens_of(chars, 3.0) for chars in (0, 1, 3, 4)] == [0, 1, 1, 2]
    for ratio in (0.0, -1.0, float("nan")):
        with pytest.raises(AtlasError, match="above 0"):
            tokens_of(10, ratio)


def test_an_endpoint_comes_back_from_its_json() -> None:
    endpoint = Endpoint(" http://127.0.0.1:8000/v1/ ", "some/model:7b", "MY_KEY", 4, 12.5, 0.1, 0.4)
    assert endpoint.base_url == "http://127.0.0.1:8000/v1"
    assert Endpoint.from_json(endpoint.to_json()) == endpoint
    assert Endpoint.from_json({"base_url": IN_PROCESS, "model": "gpt2"}).in_process


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "an object"),
        ({"model": "m"}, "lacks base_url"),
        ({"base_url": "http://h/v1"}, "lacks model"),
        ({"base_url": "http://h/v1", "model": " "}, "Name a model"),
        ({"base_url": "ftp://h/v1", "model": "m"}, "http://"),
        ({"base_url": "localhost:8000/v1", "model": "m"}, "http://"),
        ({"base_url": "http://", "model": "m"}, "http://"),
        ({"base_url": "http://[::1/v1", "model": "m"}, "http://"),
        ({"base_url": "http://h:99999/v1", "model": "m"}, "http://"),
        ({"base_url": "http://h/v1\x00", "model": "m"}, "http://"),
        ({"base_url": "http://h/v1", "model": "m", "api_key": "x"}, "no field api_key"),
        ({"base_url": "http://h/v1", "model": "m", "concurrency": 0}, "between 1 and"),
        ({"base_url": "http://h/v1", "model": "m", "concurrency": True}, "whole number"),
        ({"base_url": "http://h/v1", "model": "m", "concurrency": 2.5}, "whole number"),
        ({"base_url": "http://h/v1", "model": "m", "timeout": 0}, "above 0"),
        ({"base_url": "http://h/v1", "model": "m", "timeout": None}, "give a number"),
        ({"base_url": "http://h/v1", "model": "m", "price_in": 1.0}, "both prices"),
        ({"base_url": "http://h/v1", "model": "m", "price_in": 1.0, "price_out": -1}, "0 or more"),
        ({"base_url": 7, "model": "m"}, "give an address"),
    ],
)
def test_what_is_no_endpoint_is_refused_with_a_sentence(value: Any, words: str) -> None:
    with pytest.raises(AtlasError, match=words):
        Endpoint.from_json(value)


def test_a_page_that_names_an_endpoint_loads_neither_openai_nor_torch() -> None:
    code = "import sys, core.llm.client, core.llm.estimate; print(*sys.modules)"
    root = Path(__file__).resolve().parents[2]
    loaded = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert "core.llm.client" in loaded
    assert not {"openai", "torch", "transformers", "httpx2"} & set(loaded)
