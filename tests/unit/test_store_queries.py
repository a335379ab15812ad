"""Explore's answers are those of the plain activations, whatever a person types."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from core.errors import AtlasError
from core.store.cache import Cache
from core.store.picks import random_interesting, worth_a_look
from core.store.queries import SORTS, coverage, explore, layers
from core.store.units import UnitView, load_unit
from core.units import Site, UnitName
from core.workspace import Workspace
from tests.synthetic import Recipe, write_synthetic_index

RUN = "index-test"
ALL = 2 * 3 * 24
RECIPE = Recipe(width=24, kinds=("mlp", "resid"), hostile=True)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """Two runs, of which only one is asked; no test changes them."""
    workspace = Workspace.open(tmp_path_factory.mktemp("queries") / "ws")
    write_synthetic_index(workspace, width=24, kinds=("mlp", "resid"), hostile=True)
    write_synthetic_index(workspace, run="other", slug="other", seed=9)
    cache = Cache.open(workspace)
    assert cache.ingest() == []
    yield cache
    cache.close()


@pytest.fixture(scope="module")
def everything(cache: Cache) -> pd.DataFrame:
    frame, total = explore(cache, RUN, limit=1000)
    assert total == len(frame) == ALL
    return frame


@pytest.fixture(scope="module")
def views(cache: Cache, everything: pd.DataFrame) -> dict[str, UnitView]:
    return {name: load_unit(cache.workspace, UnitName.parse(name)) for name in everything["name"]}


def names(frame: pd.DataFrame) -> set[str]:
    return set(frame["name"])


def test_every_unit_is_listed_once_with_its_own_numbers(everything: pd.DataFrame, views: dict[str, UnitView]) -> None:
    assert names(everything) == {f"tiny/{site}/neurons/{unit}" for site in RECIPE.sites for unit in range(24)}
    for row in everything.iloc[::7].to_dict("records"):
        view = views[str(row["name"])]
        assert (row["max"], row["min"], row["tokens"], row["nonzero"]) == tuple(
            view.stats[key] for key in ("max", "min", "tokens", "nonzero")
        )
        assert row["density"] == pytest.approx(view.density, rel=1e-6)
        assert (row["peak_token"], row["snippet"]) == (view.peak_token, view.snippet)
        np.testing.assert_equal(np.float32(row["kurtosis"]), np.float32(view.stats["kurtosis"]))


@pytest.mark.parametrize("sort", list(SORTS))
@pytest.mark.parametrize("descending", [True, False])
def test_pages_put_together_are_the_sorted_list_with_undefined_last(cache: Cache, sort: str, descending: bool) -> None:
    pages = [explore(cache, RUN, sort=sort, descending=descending, limit=50, offset=at)[0] for at in (0, 50, 100)]
    joined = pd.concat(pages)
    assert len(names(joined)) == ALL
    if sort == "unit":
        return
    values = joined[sort].to_numpy(dtype=float)
    known = values[~np.isnan(values)]
    assert np.isnan(values[len(known) :]).all()
    assert (np.diff(known) <= 0).all() if descending else (np.diff(known) >= 0).all()


def test_filters_keep_exactly_what_is_inside_them(cache: Cache, everything: pd.DataFrame) -> None:
    found, total = explore(
        cache, RUN, kinds=["mlp"], layers=[0, 2], density=(0.002, 0.2), kurtosis=(5, None), maximum=(None, 4), limit=1000
    )
    e = everything
    inside = (e.kind == "mlp") & e.layer.isin([0, 2]) & e.density.between(0.002, 0.2) & (e["kurtosis"] >= 5) & (e["max"] <= 4)
    assert 0 < inside.sum() < ALL
    assert names(found) == set(e.loc[inside, "name"])
    assert total == inside.sum()


def test_an_empty_choice_gives_nothing_and_the_total_survives_a_page_beyond_the_end(cache: Cache) -> None:
    assert explore(cache, RUN, kinds=[])[1] == 0
    assert explore(cache, RUN, layers=[-1, 99, 10**9])[1] == 0
    assert explore(cache, "no-such-run")[1] == 0
    page, total = explore(cache, RUN, offset=10_000)
    assert (len(page), total) == (0, ALL)


@pytest.mark.parametrize("text", ["tokyo", "ThE OLD", "東京", "%", "_", "50%_\\", "'; drop", "</script>", "\u202e", "zzz", "o%o", "\\"])
def test_text_is_found_in_top_records_and_top_tokens_and_nothing_is_a_wildcard(cache: Cache, views: dict[str, UnitView], text: str) -> None:
    wanted: set[str] = set()
    for name, view in views.items():
        texts = [record.text for record in view.bands["top"] if record.value != 0] + [top.text for top in view.top_tokens if top.mean != 0]
        if any(text.lower() in each.lower() for each in texts):
            wanted.add(name)
    found, total = explore(cache, RUN, text=text, limit=1000)
    assert names(found) == wanted
    assert total == len(wanted)


@pytest.mark.parametrize("token", [" Paris", "paris", "PARIS ", "\n", "東", "' OR 1=1 --", "%", "\x00", "</script>"])
def test_a_top_token_is_found_whatever_its_case_and_spaces(cache: Cache, views: dict[str, UnitView], token: str) -> None:
    wanted: set[str] = set()
    for name, view in views.items():
        shown = [top.text for top in view.top_tokens if top.mean != 0]
        if any(each.strip(" \n\t\r").lower() == token.strip().lower() if token.strip() else each == token for each in shown):
            wanted.add(name)
    assert names(explore(cache, RUN, token=token, limit=1000)[0]) == wanted


@pytest.mark.parametrize("text", ["'; DROP TABLE units; --", '"; DELETE FROM units', "$1", "?", "{0}", "%s", "\x00", "/* */", "x" * 5000])
def test_sql_in_a_search_is_only_text(cache: Cache, text: str) -> None:
    for search in ({"text": text}, {"token": text}):
        explore(cache, RUN, **search)  # type: ignore[arg-type]
    explore(cache, text)
    assert explore(cache, RUN)[1] == ALL
    with pytest.raises(AtlasError, match="cannot be sorted by"):
        explore(cache, RUN, sort=text)


def test_layers_summarise_every_site(cache: Cache, everything: pd.DataFrame) -> None:
    frame = layers(cache, RUN)
    assert len(frame) == 6 * 4
    for row in frame.to_dict("records"):
        of = everything[(everything.kind == row["kind"]) & (everything.layer == row["layer"])]
        values = {
            "density": of.density,
            "log10 density": np.log10(of.density[of.density > 0]),
            "log10 kurtosis": np.log10(of.loc[of.density > 0, "kurtosis"]),
            "max": of["max"],
        }[str(row["measure"])]
        assert row["units"] == len(values)
        assert row["dead"] == 1
        found = [row["q0"], row["q5"], row["q25"], row["q50"], row["q75"], row["q95"], row["q100"]]
        np.testing.assert_allclose(found, np.quantile(values, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]), rtol=1e-5)


def test_picks_are_alive_rare_spread_over_layers_explained_and_differ_by_seed(cache: Cache) -> None:
    lists = [worth_a_look(cache, RUN, seed, 6) for seed in range(4)]
    for picks in lists:
        assert len(names(picks)) == 6
        assert (picks.density > 0).all()
        rare = ~picks.why.str.startswith("One of the 10 most peaked")
        assert rare.sum() >= 2
        assert (picks.density[rare] < 0.05).all()
        assert set(picks.layer) == {0, 1, 2}
        assert picks.layer.value_counts().max() <= 3
        assert picks.why.str.fullmatch(r".{20,200}\.").all()
    assert len({tuple(picks["name"]) for picks in lists}) > 1
    pd.testing.assert_frame_equal(lists[0], worth_a_look(cache, RUN, 0, 6))


def test_a_pick_said_to_agree_on_a_token_does(cache: Cache, views: dict[str, UnitView]) -> None:
    said = 0
    for seed in range(5):
        for row in worth_a_look(cache, RUN, seed, 6).to_dict("records"):
            view = views[str(row["name"])]
            strong = [record for record in view.bands["top"] if record.value >= view.stats["max"] / 2]
            peaks = [int(record.tokens[record.position]) for record in strong]
            assert row["strong_records"] == len(strong)
            assert row["agreement"] == max(peaks.count(token) for token in peaks)
            if "strongest records peak on “" in str(row["why"]):
                assert str(row["why"]).startswith(f"{row['agreement']} of its {len(strong)} strongest")
                said += 1
    assert said > 0


def test_a_random_interesting_unit_exists_and_follows_the_seed(cache: Cache, everything: pd.DataFrame) -> None:
    found = [random_interesting(cache, RUN, seed) for seed in range(20)]
    assert len(set(found)) > 5
    assert {str(name) for name in found} <= set(everything.loc[(everything.density > 0) & (everything.density < 0.05), "name"])
    assert random_interesting(cache, RUN, 3) == found[3]
    with pytest.raises(AtlasError, match="no units to show yet"):
        random_interesting(cache, "no-such-run", 1)


def test_coverage_tells_what_the_cache_holds(cache: Cache) -> None:
    frame = coverage(cache)
    assert set(frame.run) == {"index-test", "other"}
    assert frame.tokens_done.is_monotonic_decreasing
    first = frame[frame.run == RUN].iloc[0]
    assert (first.subject, first.sites, first.units, first.state) == ("tiny", 6, ALL, "complete")
    assert first.bytes > 0


def test_a_run_without_a_single_interesting_unit_still_answers(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=1, width=1, signed=False, contexts=4, seed=2)
    cache = Cache.open(workspace)
    try:
        cache.ingest()
        assert random_interesting(cache, RUN, 0) == UnitName("tiny", Site("mlp", 0), "neurons", 0)
        assert len(worth_a_look(cache, RUN, 0)) <= 1
        assert len(layers(cache, RUN)) == 4
    finally:
        cache.close()


def test_a_run_of_busy_units_still_has_picks(workspace: Workspace) -> None:
    write_synthetic_index(workspace, n_layers=2, width=4)
    cache = Cache.open(workspace)
    try:
        cache.ingest()
        with cache.cursor() as cursor:
            cursor.execute("UPDATE units SET interesting = false, density = 0.5")
        picks = worth_a_look(cache, RUN, 0, 4)
        assert sorted(picks.layer) == [0, 0, 1, 1]
        assert picks.why.str.contains("active on 50 % of tokens").all()
    finally:
        cache.close()
