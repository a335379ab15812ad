"""From the form to the figure on the page: an endpoint that knows the truth gives ρ 1.00, and the key that it wants is on no page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, expect

from core.store.explanation_view import load_explanation
from core.workspace import Workspace
from tests.browser.server import Server, command, serving
from tests.browser.view import PATIENCE, View, viewing
from tests.llm_endpoint import LlmEndpoint
from tests.oracle_index import KnowingOracle, naming
from tests.synthetic import Recipe

KEY = "sk-secret-71c05e9a2fd8b364"
SIMULATORS = {"chat": "structured chat", "completions": "all at once, over HTTP"}
EXPLAINER = "token–activation pairs"


@dataclass(frozen=True)
class Place:
    """A dashboard with the key in its environment, and the endpoint that wants it."""

    server: Server
    endpoint: LlmEndpoint


@pytest.fixture(scope="module")
def place(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("oracle")
    oracle = KnowingOracle(Workspace.open(folder / "ws"), Recipe(n_layers=1, width=8, contexts=320, signed=False, seed=4))
    with LlmEndpoint(answer=oracle.answer, key=KEY) as endpoint, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", KEY)
        patch.setenv("OPENAI_BASE_URL", endpoint.base_url)
        with serving(folder / "ws", folder / "serve.log") as server:
            yield Place(server, endpoint)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_perfect_simulation_asked_for_on_the_unit_s_page_is_a_correlation_of_one_there(
    browser: Browser, place: Place, simulator: str
) -> None:
    unit = list(SIMULATORS).index(simulator)
    with viewing(browser, place.server) as view:
        view.go(f"unit?unit=tiny/mlp.0/neurons/{unit}")
        view.page.get_by_text("Choose how to explain").click()
        choose(view, "explain-explainer", EXPLAINER)
        name_listed_model(view)
        choose(view, "explain-simulator", SIMULATORS[simulator])
        before = place.endpoint.answered
        view.page.get_by_role("button", name="Explain", exact=True).click()
        row = view.page.locator(".nx.best")
        expect(row).to_contain_text(naming(unit, 0), timeout=4 * PATIENCE)
        expect(row).to_contain_text(f"token-activation by tiny → {simulator}")
        expect(row).to_contain_text("ρ 1.00 [1.00, 1.00]")
        assert place.endpoint.answered > before, "the endpoint was asked"
        view.page.get_by_role("button", name="compare").click()
        expect(view.page.locator(".st-key-explanation-opened .row.simulated").first).to_be_visible(timeout=PATIENCE)
        assert_true(place, view.query()["explanation"], simulator)
        assert_no_key(view)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_a_run_s_perfect_simulations_are_ones_in_its_list(browser: Browser, place: Place, simulator: str) -> None:
    asked = ("--explainer", "token-activation", "--simulator", simulator, "--model", "tiny", "--endpoint", place.endpoint.base_url)
    units = [f"tiny/mlp.0/neurons/{unit}" for unit in (2, 3, 4)]
    made = command(place.server.workspace, "explain", *units, *asked)["explanations"]
    with viewing(browser, place.server) as view:
        view.go(f"explain?run={made[0]['id'].split('.')[0]}")
        rows = view.page.locator("tr.row")
        expect(rows).to_have_count(len(units), timeout=2 * PATIENCE)
        for row in rows.all():
            expect(row).to_contain_text(re.compile(r"1\.00\s*\[1\.00, 1\.00\]"))
            expect(row).to_contain_text("100 %")
        for one in made:
            assert_true(place, one["id"], simulator)
        assert_no_key(view)


def choose(view: View, key: str, option: str) -> None:
    """Choose in the field of this key, and wait for the form to be drawn again."""
    view.page.locator(f".st-key-{key} input").click()
    view.page.get_by_role("option", name=option, exact=True).click()
    view.settled()


def name_listed_model(view: View) -> None:
    """Ask the address that the environment names for its models, and choose one of them."""
    expect(view.page.locator(".st-key-explain-explainer-address input")).to_have_value(re.compile(r"http://127\.0\.0\.1:\d+/v1"))
    view.page.locator(".st-key-explain-form").get_by_role("button", name="More").first.click()
    view.page.get_by_role("button", name="List its models").click()
    view.page.keyboard.press("Escape")
    view.settled()
    choose(view, "explain-explainer-model", "tiny")


def assert_true(place: Place, identity: str, simulator: str) -> None:
    """What the page rounds is 1 up to the precision of stored activations, over all records."""
    view = load_explanation(Workspace.open(place.server.workspace), identity)
    score = view.score("simulated", "top-and-random", "validation")
    assert score is not None
    assert score.simulator == simulator
    assert score.score.rho == pytest.approx(1, abs=1e-6)
    assert (score.score.coverage, score.score.reason) == (1, "")


def assert_no_key(view: View) -> None:
    view.check()
    assert KEY.removeprefix("sk-secret-") not in view.page.content()
