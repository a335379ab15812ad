"""The table of the benches: what was measured stands in it with its target, what was not is left out."""

from bench.targets import table


def line(text: str, name: str) -> str:
    return next((found for found in text.splitlines() if name in found), "")


def test_a_figure_is_judged_by_its_target() -> None:
    met = table({"pages": {"view": {"cpu_ms": {"median": 41.5}}}}, full=False)
    missed = table({"pages": {"view": {"cpu_ms": {"median": 60.5}}}}, full=False)
    name = "Unit page: server CPU a view, median"
    assert line(met, name).split()[-6:] == ["41.5", "ms", "≤", "60", "ms", "met"]
    assert line(missed, name).endswith("MISSED")


def test_what_was_not_measured_is_not_in_the_table() -> None:
    text = table({"indexer": {"failed": "no memory"}, "pages": {"next": {"skipped": "no Chromium"}}}, full=True)
    assert len(text.splitlines()) == 1
    assert "0" not in text


def test_a_target_of_the_full_size_judges_only_the_full_size() -> None:
    found = {"store_scale": {"load_unit_ms": {"median": 40.0}}}
    assert line(table(found, full=True), "one unit read").endswith("MISSED")
    assert "≤" not in line(table(found, full=False), "one unit read")


def test_a_single_error_misses_the_target() -> None:
    none, one = ({"pages": {"viewers_during_index": {"errors": count}}} for count in (0, 1))
    assert line(table(none, full=False), "errors").endswith("met")
    assert line(table(one, full=False), "errors").endswith("MISSED")


def test_a_quick_run_is_not_judged() -> None:
    assert "MISSED" not in table({"pages": {"view": {"cpu_ms": {"median": 600.0}}}}, full=False, judge=False)
