"""What the benches are held to: where each figure stands in a bench's JSON, what it is called, and its limit."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the table. `path` leads to the figure inside its bench's JSON; the figure must be at most `limit`.

    `full`: the limit is meant for the bench's full size only.
    """

    bench: str
    path: tuple[str, ...]
    name: str
    unit: str
    limit: float | None = None
    full: bool = False

    def value(self, found: dict[str, Any]) -> float | None:
        """The figure, or None when it was not measured."""
        at: Any = found.get(self.bench)
        for step in self.path:
            at = at.get(step) if isinstance(at, dict) else None
        return float(at) if isinstance(at, int | float) and not isinstance(at, bool) else None


FIGURES = (
    Figure("indexer", ("bare_tokens_per_second",), "bare forward pass", "tokens/s"),
    Figure("indexer", ("full_tokens_per_second",), "index, everything", "tokens/s"),
    Figure("indexer", ("ends_ratio_cpu",), "index, top and bottom records / bare pass, CPU", "×", 1.10),
    Figure("indexer", ("ends_ratio_wall",), "the same, wall", "×"),
    Figure("indexer", ("full_ratio_cpu",), "index, everything / bare pass, CPU", "×", 1.20),
    Figure("indexer", ("full_ratio_wall",), "the same, wall", "×"),
    Figure("indexer", ("sketch_bytes_per_unit_on_disk",), "disk a unit", "bytes"),
    Figure("indexer", ("peak_mb_at_the_end",), "memory at the end", "MB"),
    Figure("pages", ("view", "cpu_ms", "median"), "Unit page: server CPU a view, median", "ms", 60),
    Figure("pages", ("view", "fresh_visit_cpu_ms", "median"), "the same, a new visitor", "ms"),
    Figure("pages", ("next", "visible_ms", "median"), "next unit visible in Chromium, median", "ms", 600),
    Figure("pages", ("next", "visible_ms", "p95"), "the same, 95 %", "ms"),
    Figure("pages", ("viewers", "until_finished_ms", "p95"), "20 viewers, 95 %", "ms", 400),
    Figure("pages", ("viewers", "errors"), "20 viewers, errors", "", 0),
    Figure("pages", ("viewers_during_index", "until_finished_ms", "median"), "20 viewers while an index runs, median", "ms"),
    Figure("pages", ("viewers_during_index", "until_finished_ms", "p95"), "the same, 95 %", "ms", 400),
    Figure("pages", ("viewers_during_index", "errors"), "the same, errors", "", 0),
    Figure("pages", ("lookups", "explore_first_page_ms", "median"), "Explore, first page, median", "ms"),
    Figure("pages", ("lookups", "explore_text_common_ms", "median"), "Explore, a common word, median", "ms"),
    Figure("pages", ("lookups", "load_unit_ms", "median"), "one unit read, median", "ms", 10),
    Figure("features", ("ratio_cpu_4608",), "index of 4,608 features / bare pass to layer 9, CPU", "×", 1.35),
    Figure("features", ("ratio_wall_4608",), "the same, wall", "×"),
    Figure("features", ("ratio_cpu_9216",), "the same for 9,216 features, CPU", "×"),
    Figure("store_scale", ("units",), "synthetic units", ""),
    Figure("store_scale", ("ingest_seconds",), "ingest", "s"),
    Figure("store_scale", ("cache_bytes",), "cache", "bytes"),
    Figure("store_scale", ("parquet_bytes_a_unit",), "Parquet a unit", "bytes"),
    Figure("store_scale", ("load_unit_ms", "median"), "one unit read, median", "ms", 10, full=True),
    Figure("store_scale", ("slowest_query_ms",), "slowest Explore filter, median", "ms", 300, full=True),
    Figure("search", ("documents",), "texts searched", ""),
    Figure("search", ("all_ms", "median"), "a question of 1 to 5 words, with and without filters, median", "ms"),
    Figure("search", ("all_ms", "p95"), "the same, 95 %", "ms", 200),
    Figure("search", ("ratio_to_reading_all",), "without a filter / reading all texts for one word", "×", 1),
    Figure("search", ("ratio_to_bm25s",), "the same / bm25s alone: whole words, one part", "×"),
    Figure("search", ("making_seconds",), "making the search index", "s"),
    Figure("search", ("after_a_note_ms",), "the first question after a note was written", "ms"),
    Figure("simulator", ("ratio_cpu",), "simulating a record, cached / everything read anew, CPU", "×", 0.30),
    Figure("simulator", ("ratio_wall",), "the same, wall", "×"),
    Figure("simulator", ("plain_ratio_cpu",), "the same, against one pass without the step after 1, CPU", "×"),
    Figure("simulator", ("cached_seconds_a_record",), "simulating a record of 64 tokens", "s"),
    Figure("simulator", ("start_seconds",), "reading the examples once", "s"),
    Figure("simulator", ("largest_difference",), "cached and anew differ by at most", "", 1e-4),
    Figure("explaining", ("units",), "units explained over HTTP, cancelled, killed and resumed", ""),
    Figure("explaining", ("lost",), "explanations lost", "", 0),
    Figure("explaining", ("made_twice",), "explanations made twice", "", 0),
    Figure("explaining", ("asked_again_after_cancel",), "answers asked for again after a cancel", "", 0),
    Figure("explaining", ("asked_again_beyond_flight",), "the same after a kill, beyond the calls in flight", "", 0),
    Figure("explaining", ("calls_per_second",), "calls", "/s"),
    Figure("explaining", ("limit_to_calls",), "the endpoint's limit / calls", "×"),
    Figure("explaining", ("bare_calls_per_second",), "calls to an endpoint without a limit", "/s"),
    Figure("explaining", ("pattern", "fit_ms", "median"), "pattern explainer, fit and wording, a unit, median", "ms"),
    Figure("explaining", ("pattern", "score_ms", "median"), "simulating and scoring it with controls, median", "ms"),
    Figure("explaining", ("pattern", "whole_ms", "max"), "both, slowest unit", "ms", 15_000),
    Figure("patching", ("share_cpu",), "trying 2,304 features in 50 pairs / one at a time, CPU", "×", 1 / 20),
    Figure("patching", ("fast_seconds",), "trying them, cached and batched", "s"),
    Figure("patching", ("difference",), "both ways differ by at most", "nats", 1e-5),
    Figure("sae_step", ("tied_over_saelens_standard",), "tied training step / SAELens standard, CPU", "×", 1 / 2.5),
    Figure("sae_step", ("tied_over_dictionary_learning_standard",), "tied training step / dictionary_learning standard, CPU", "×", 1 / 2.5),
    Figure("sae_step", ("topk_over_sparsify_topk",), "TopK training step / sparsify, CPU", "×", 1 / 1.6),
    Figure("sae_step", ("topk_over_saelens_topk",), "TopK training step / SAELens TopK, CPU", "×", 1 / 4.5),
    Figure("sae_step", ("topk_over_dictionary_learning_topk",), "TopK training step / dictionary_learning TopK, CPU", "×", 1 / 4.5),
    Figure("sae_step", ("vectors_per_second", "ours-tied"), "tied training", "vectors/s"),
    Figure("sae_step", ("vectors_per_second", "ours-topk"), "TopK training", "vectors/s"),
)


def table(found: dict[str, Any], *, full: bool, judge: bool = True) -> str:
    """The figures that were measured, one a line: bench, name, figure, target, whether it is met (if `judge`)."""
    rows = [("BENCH", "FIGURE", "", "TARGET", "")]
    for figure in FIGURES:
        value = figure.value(found)
        if value is None:
            continue
        limit = figure.limit if judge and (full or not figure.full) else None
        target = "" if limit is None else f"≤ {_number(limit)} {figure.unit}".rstrip()
        verdict = "" if limit is None else "met" if value <= limit else "MISSED"
        rows.append((figure.bench, figure.name, f"{_number(value)} {figure.unit}".rstrip(), target, verdict))
    return _aligned(rows)


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.rjust(width) if i in (2, 3) else cell.ljust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
    return "".join(line.rstrip() + "\n" for line in lines)
