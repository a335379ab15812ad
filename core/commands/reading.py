"""Commands that read results: `show UNIT` and `top --text`."""

import argparse
from typing import Any

import numpy as np

from core.commands.output import emit, note, number, printable, table
from core.errors import AtlasError
from core.store.features import Feature, load_feature
from core.store.token_histogram import token_histogram
from core.store.units import Record, UnitView, load_unit
from core.ui.words import against_maximum
from core.units import UnitName
from core.vocab import Vocab
from core.workspace import Workspace

AROUND = 8
"""Tokens shown on each side of a record's peak."""
SHOWN_RECORDS = 10
SHOWN_TOKENS = 10
TRY_SECONDS = 600.0


def show(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Print one unit: statistics, histogram, top tokens, records, provenance; of a dictionary's also what `load_feature` knows."""
    from core.store.texts import load_vocab

    view = load_unit(workspace, UnitName.parse(arguments.unit), arguments.run)
    feature = load_feature(workspace, view)
    vocab = load_vocab(workspace, view.name.subject)
    document = unit_document(view, vocab) | {"feature": None if feature is None else _feature_document(feature, vocab)}
    emit(arguments, document, [*_unit_lines(view, vocab), *([] if feature is None else _feature_lines(feature, vocab))])
    return 0


def top(arguments: argparse.Namespace, workspace: Workspace) -> int:
    """Print the units that fire strongest on a text, against the largest activation each had in its corpus: neurons, or features."""
    from core.runs import client
    from core.store.catalog import indexes_of
    from core.store.texts import load_vocab

    if not 1 <= arguments.n <= 1000:
        raise AtlasError("The number of units must be from 1 to 1,000.")
    index = indexes_of(workspace, arguments.model, arguments.run, arguments.basis)[0]
    slug, basis = index.slug, index.basis
    answer = client.call(workspace, "try_text", TRY_SECONDS, on_progress=note, subject=slug, run=index.run, text=arguments.text)
    vocab = load_vocab(workspace, slug)
    tokens: list[int] = answer["tokens"]
    pieces = vocab.pieces(tokens)
    best: dict[str, dict[str, Any]] = {}
    for position, candidates in enumerate(answer["strongest"]):
        for candidate in candidates:
            name = f"{slug}/{candidate['site']}/{basis}/{candidate['unit']}"
            if name not in best or candidate["ratio_to_max"] > best[name]["ratio_to_max"]:
                where = {"position": position, "token": tokens[position], "text": pieces[position]}
                best[name] = {"unit": name, **where, **{k: candidate[k] for k in ("value", "percentile_band", "ratio_to_max")}}
    chosen = sorted(best.values(), key=lambda item: (-item["ratio_to_max"], item["unit"]))[: arguments.n]
    rows = [["UNIT", "TOKEN", "VALUE", "OF ITS MAXIMUM", "ABOVE ITS"]]
    rows += [
        [
            str(item["unit"]),
            vocab.label(item["token"]),
            number(item["value"]),
            against_maximum(item["ratio_to_max"]),
            str(item["percentile_band"]),
        ]
        for item in chosen
    ]
    document = {
        "model": slug,
        "basis": basis,
        "run": answer["run"],
        "tokens": [{"token": token, "text": piece} for token, piece in zip(tokens, pieces, strict=True)],
        "units": chosen,
        "sites": answer["sites"],
        "fires": answer["fires"],
    }
    emit(arguments, document, table(rows, (2, 3)))
    return 0


def unit_document(view: UnitView, vocab: Vocab) -> dict[str, Any]:
    """A unit as JSON shows it. `rank` counts within the band, `context` within the slice; a BOS has no activation (null)."""
    low, high = view.stats["min"], view.stats["max"]
    effects = view.effects
    return {
        "unit": str(view.name),
        "stats": {**view.stats},
        "density": view.density,
        "quantiles": view.quantiles,
        "histogram": {
            # The outermost bins are open; the unit's own extremes close them.
            "lows": [max(value, low) for value in view.histogram.lows.tolist()],
            "highs": [min(value, high) for value in view.histogram.highs.tolist()],
            "counts": view.histogram.counts.tolist(),
        },
        "top_tokens": [vars(token) for token in view.top_tokens],
        "records": [_record_document(record, vocab) for records in view.bands.values() for record in records],
        "effects": None
        if effects is None
        else {
            "raised": [vars(effect) for effect in effects.raised],
            "lowered": [vars(effect) for effect in effects.lowered],
            "similar": [{"unit": str(similar.name), "cosine": similar.cosine} for similar in effects.similar],
        },
        "provenance": view.provenance,
    }


def _feature_document(feature: Feature, vocab: Vocab) -> dict[str, Any]:
    """What is known of a dictionary's unit beyond that; the token histogram is null where not every activation is kept."""
    counted = token_histogram(feature.tokens, feature.values) if feature.complete else None
    return {
        "dictionary": feature.dictionary,
        **{name: getattr(feature, name) for name in ("bias", "threshold", "encoder_decoder_cosine")},
        "token_histogram": None
        if counted is None
        else {
            "edges": counted.edges.tolist(),
            "tokens": [
                {"token": token, "text": text, "counts": row}
                for token, text, row in zip(
                    counted.tokens.tolist(), vocab.pieces(counted.tokens.tolist()), counted.counts.tolist(), strict=True
                )
            ],
        },
        "coactive": [
            {"unit": str(other.name), "count": other.count, "total": other.total, "jaccard": other.jaccard} for other in feature.coactive
        ],
    }


def _feature_lines(feature: Feature, vocab: Vocab) -> list[str]:
    said = feature.dictionary
    figures = [("bias", feature.bias), ("threshold", feature.threshold), ("encoder–decoder cosine", feature.encoder_decoder_cosine)]
    told = [f"{name} {number(value)}" for name, value in figures if value is not None]
    lines = ["", "   ".join([f"{said['family']}, {said['rule']}, {said['units']:,} units", *told])]
    if feature.complete:
        ids, counts = np.unique(feature.tokens, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:SHOWN_TOKENS]
        common = ", ".join(f"{vocab.label(int(ids[i]))} {counts[i]:,}" for i in order)
        lines += ["", f"active on {len(feature.tokens):,} tokens, most often {common}" if len(feature.tokens) else "never active"]
    if feature.coactive:
        rows = [["ACTIVE TOGETHER", "TOKENS", "JACCARD"]]
        rows += [[str(other.name), f"{other.count:,}", f"{other.jaccard:.3f}"] for other in feature.coactive[:SHOWN_TOKENS]]
        lines += ["", *table(rows, (1, 2))]
    return lines


def _record_document(record: Record, vocab: Vocab) -> dict[str, Any]:
    ids: list[int] = record.tokens.tolist()
    activations: list[float | None] = record.activations.tolist()
    activations[: record.first] = [None] * record.first
    return {
        "band": record.band,
        "rank": record.place,
        "context": record.context,
        "document": record.document,
        "source": record.source,
        "start": record.start,
        "token_ids": ids,
        "tokens": vocab.pieces(ids),
        "activations": activations,
        "value": record.value,
        "position": record.position,
        "quantile": record.quantile,
    }


def _unit_lines(view: UnitView, vocab: Vocab) -> list[str]:
    index, stats = view.index, view.stats
    coverage = f"{index.contexts_done:,} of {index.contexts_total:,} contexts, {index.tokens_done:,} tokens"
    lines = [str(view.name), f"run {index.run}, {index.state}, {coverage}", ""]
    names = ("mean", "variance", "skewness", "kurtosis", "min", "max")
    tokens, nonzero = int(stats["tokens"]), int(stats["nonzero"])
    share = f"{nonzero / tokens:.2%}" if tokens else "–"
    dense = f"{view.density:.2%}" if view.density == view.density else "–"
    lines += table(
        [["tokens", "nonzero", "density", *names], [f"{tokens:,}" if tokens else "–", share, dense, *(number(stats[n]) for n in names)]],
        range(9),
    )
    lines += ["", "top tokens"]
    lines += table(
        [[vocab.label(token.token), number(token.mean), f"{token.count:,} of {token.total:,}"] for token in view.top_tokens[:SHOWN_TOKENS]],
        (1, 2),
    )
    for band, title in (("top", "top records"), ("bottom", "bottom records")):
        records = view.bands.get(band, [])[:SHOWN_RECORDS]
        if records:
            lines += ["", title]
            lines += table([[number(record.value), record.source, _around_peak(record, vocab)] for record in records], (0,))
    if view.effects is not None:
        raised = ", ".join(
            vocab.label(effect.token) if effect.token < vocab.size else effect.text for effect in view.effects.raised[:SHOWN_TOKENS]
        )
        lines += ["", f"raises  {raised}"]
    return lines


def _around_peak(record: Record, vocab: Vocab) -> str:
    """A few tokens around the peak, which stands in [brackets]."""
    ids: list[int] = record.tokens.tolist()
    at = record.position
    left, right = vocab.decode(ids[max(0, at - AROUND) : at]), vocab.decode(ids[at + 1 : at + 1 + AROUND])
    return f"{printable(left)}[{printable(vocab.pieces(ids[at : at + 1])[0])}]{printable(right)}"
