"""The Unit page of a feature: every token it fires on is counted, its weights and dictionary are said, and it leads to its neighbours."""

import csv
import html
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from core.store.cache import Cache
from core.store.catalog import load_index
from core.store.queries import explore
from core.store.units import load_unit
from core.ui.feature_section import to_csv
from core.ui.records import shown_bands
from core.ui.unit_data import unit_data
from core.ui.unit_tables import top_token_table
from core.units import UnitName
from core.workspace import Workspace
from tests.pages import conftest
from tests.pages.conftest import OpenPage, alerts
from tests.synthetic import write_synthetic_index
from tests.synthetic_features import ALPHA, NAME, RECIPE, RUN, SITE, UNITS, biases, codes, write_synthetic_features

Open = Callable[..., AppTest]


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Features of a dictionary, and an index of neurons of the same subject. Shared: look only."""
    workspace = Workspace.open(tmp_path_factory.mktemp("features"))
    write_synthetic_features(workspace)
    write_synthetic_index(workspace, n_layers=1, width=UNITS // 2, contexts=48, length=16)
    return workspace


@pytest.fixture
def opened(features: Workspace, open_page: OpenPage) -> Open:
    return partial(open_page, features, "unit")


def name(unit: int) -> str:
    return f"tiny/{SITE}/{NAME}/{unit}"


def counted(unit: int) -> Counter[int]:
    """How often a feature is active on each token, from the very activations."""
    _, text = RECIPE.text()
    values = codes()[..., unit]
    return Counter(int(text.contexts[rank][at]) for rank, at in zip(*np.nonzero(values > 0), strict=True))


def tables(page: AppTest) -> dict[str, dict[str, Any]]:
    """The small tables by their titles."""
    return {table["title"]: table for data in conftest.components(page) for table in data.get("tables", [])}


def said(page: AppTest) -> str:
    return html.unescape("\n".join(conftest.bodies(page)))


def figure(page: AppTest) -> dict[str, Any]:
    """The token histogram as Plotly gets it."""
    return json.loads(page.get("plotly_chart")[-1].proto.spec)  # type: ignore[attr-defined]


def test_every_token_of_a_feature_is_counted(opened: Open) -> None:
    page = opened(unit=name(2))
    assert not page.exception
    assert not alerts(page)
    expected = counted(2)
    key = tables(page)["Tokens by activation"]
    assert f"every token counted: {expected.total():,}" in key["note"]
    lines = key["columns"][0]
    assert [int(line["value"].replace(",", "")) for line in lines[:5]] == [count for _, count in expected.most_common(5)]
    assert sum(int(line["value"].replace(",", "")) for line in lines) == expected.total()
    assert len({line["colour"] for line in lines}) == len(lines)
    assert [sum(bar["y"]) for bar in figure(page)["data"]] == [int(line["value"].replace(",", "")) for line in lines]


def test_the_csv_holds_every_token_in_every_bin(features: Workspace) -> None:
    index = load_index(features, RUN)
    data = unit_data(features, index, UnitName.parse(name(2))).feature
    assert data is not None
    head, *rows = list(csv.reader(io.StringIO(to_csv(data).decode())))
    assert head[:3] == ["token", "text", "all"]
    assert len(head) == 13
    assert {int(row[0]): int(row[2]) for row in rows} == counted(2)
    assert all(int(row[2]) == sum(map(int, row[3:])) for row in rows)


def test_the_bars_are_drawn_as_the_address_says(opened: Open) -> None:
    assert figure(opened(unit=name(2), counts="log"))["layout"]["yaxis"]["type"] == "log"
    assert figure(opened(unit=name(2), counts="share"))["layout"]["yaxis"]["range"] == [0, 1]
    page = opened(unit=name(2), counts="cubic")
    assert any("“cubic” is not a way to draw the bars: use linear, log, share." in alert for alert in alerts(page))
    assert "type" not in figure(page)["layout"]["yaxis"]


def test_choosing_how_bars_are_drawn_is_kept_in_the_address(opened: Open) -> None:
    page = opened(unit=name(2))
    page.button_group(key="feature-counts").set_value("log").run()
    assert page.query_params["counts"] in ("log", ["log"])
    page.button_group(key="feature-counts").set_value("linear").run()
    assert "counts" not in page.query_params


def test_a_feature_says_its_weights_with_their_formulas(opened: Open) -> None:
    page = opened(unit=name(5))
    text = said(page)
    assert f"<dd>{biases()[5]:.2f}</dd>".replace("-", "−") in text
    assert "cⱼ = ReLU(eⱼ · s + bⱼ)" in text
    assert "<dd>1.000</dd><dt>encoder–decoder cosine</dt>" in text
    assert "<dt>threshold</dt>" not in text
    facts = dict(tables(page)["Dictionary"]["facts"])
    assert facts["rule"] == "ReLU, tied"
    assert facts["units"] == f"{UNITS} over {UNITS // 2}"
    assert facts["α"] == f"{ALPHA:g}"
    assert facts["beside error"] == "summed over d"
    assert facts["centred"] == "per token"


def test_features_that_are_active_together_are_counted_and_linked(features: Workspace, opened: Open) -> None:
    lines = tables(opened(unit=name(2)))["Active together"]["columns"][0]
    active = codes() > 0
    for line in lines:
        other = int(line["unit"].rsplit("/", 1)[1])
        both = int((active[..., 2] & active[..., other]).sum())
        either = int((active[..., 2] | active[..., other]).sum())
        assert line["value"] == f"{both / either:.3f}"
        assert line["count"].startswith(f"{both:,} · ")
        assert load_unit(features, UnitName.parse(line["unit"])).name.index == other
    assert [line["value"] for line in lines] == sorted((line["value"] for line in lines), reverse=True)


def test_a_dead_feature_says_so(opened: Open) -> None:
    page = opened(unit=name(UNITS - 1))
    assert not page.exception
    assert not page.get("plotly_chart")
    shown = tables(page)
    assert shown["Tokens by activation"]["empty"] == "The feature is active on no token of the text."
    assert shown["Active together"]["empty"] == "No other feature is active on the same tokens."
    assert shown["Top tokens"]["empty"] == "On no token that stands in the text three times or more is the unit active."
    assert "It is active on no text." in conftest.shown(page)


def test_what_it_responds_to_has_only_texts_and_tokens_on_which_it_is_active(features: Workspace) -> None:
    for unit in range(UNITS):
        view = load_unit(features, UnitName.parse(name(unit)))
        bands = dict(shown_bands(view))
        assert [record.value for record in bands["top"]] == [record.value for record in view.bands["top"] if record.value > 0]
        assert len(bands["random"]) == len(view.bands["random"])  # a sample stays one
        (lines,) = top_token_table(view).columns or ([],)
        assert len(lines) == min(10, sum(token.mean != 0 for token in view.top_tokens))


def test_a_text_is_not_found_by_units_that_are_silent_on_it(workspace: Workspace) -> None:
    write_synthetic_features(workspace)
    cache = Cache.open(workspace)
    cache.ingest()
    try:
        view = load_unit(workspace, UnitName.parse(name(UNITS - 1)))
        assert view.bands["top"]  # kept, though the feature never is active
        assert view.top_tokens
        found, _ = explore(cache, RUN, text=" ", limit=100)
        by_token, _ = explore(cache, RUN, token=view.top_tokens[0].text, limit=100)
        assert len(found) > 0
        assert name(UNITS - 1) not in [*found["name"], *by_token["name"]]
    finally:
        cache.close()


def test_a_neuron_has_none_of_it(opened: Open) -> None:
    page = opened(unit="tiny/mlp.0/neurons/3")
    assert not page.exception
    assert not {"Tokens by activation", "Active together", "Dictionary"} & tables(page).keys()
    assert "encoder–decoder cosine" not in said(page)


@pytest.mark.parametrize(
    ("how", "sentence"),
    [({"state": "running"}, "Counted when the whole text has been read."), ({"sparse": False}, "Not counted: this basis is not sparse")],
)
def test_what_is_not_counted_says_why(workspace: Workspace, open_page: OpenPage, how: dict[str, Any], sentence: str) -> None:
    write_synthetic_features(workspace, **how)
    page = open_page(workspace, "unit", unit=name(2))
    assert not page.exception
    assert tables(page)["Tokens by activation"]["empty"].startswith(sentence)
    assert tables(page)["Active together"]["empty"].startswith(sentence)


def test_a_feature_whose_dictionary_was_removed_is_still_shown(workspace: Workspace, open_page: OpenPage) -> None:
    from core.bases import shelf

    write_synthetic_features(workspace)
    shelf.remove(workspace, f"tiny/{SITE}/{NAME}")
    page = open_page(workspace, "unit", unit=name(2))
    assert not page.exception
    assert "α" not in dict(tables(page)["Dictionary"]["facts"])


def test_the_page_of_a_feature_loads_no_torch(workspace: Workspace) -> None:
    write_synthetic_features(workspace)
    code = f"""
import os, sys
os.environ.update(NEURON_ATLAS_WORKSPACE={str(workspace.path)!r}, NEURON_ATLAS_BACKGROUND="off")
from streamlit.testing.v1 import AppTest
tested = AppTest.from_file("pages/unit.py", default_timeout=60)
tested.query_params["unit"] = {name(2)!r}
assert not tested.run().exception
assert len(tested.get("plotly_chart")) == 2
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=conftest.ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not {module.partition(".")[0] for module in done.stdout.split()} & {"torch", "transformers", "numba", "safetensors"}
