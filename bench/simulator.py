"""All-at-once simulation with what is kept against reading everything anew, alternating: `python -m bench.simulator [--json]`.

Both give the same numbers for the same records of 64 tokens on the embedded model. An explanation has as many records as a score is over
(five top and five random ones); reading it once is part of the cost of its records. `plain` is a forward pass over the same prompt with
neither kept keys and values nor the step after 1 that this model's tokenizer needs: less than what is asked for.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from bench.machine import machine
from core.autointerp.local import LocalModel, LocalSimulator
from core.corpus.build import build_slice
from core.corpus.spec import CorpusSpec
from core.subject.tokenizer import SubjectTokenizer
from core.workspace import Workspace

RECORDS = 10
SENTENCES = (
    "names of tools that are held in the hand",
    "the word “not” and other negations",
    "numbers and dates in reports",
    "verbs of motion",
)


def measure(rounds: int, records: int, dtype: str) -> dict[str, object]:
    """Seconds a record of each variant, and their ratios: medians over rounds, each one explanation with its records."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace.open(folder)
        model = LocalModel.load(workspace, "default", dtype=dtype)
        piece = build_slice(workspace, CorpusSpec("embedded", 8 * rounds * records), SubjectTokenizer(model.subject, model.vocab))
        whole = [row.tolist() for row, length in zip(piece.tokens, piece.lengths, strict=True) if length == len(row)]
        texts = [model.vocab.pieces(ids) for ids in whole[: rounds * records]]
        begin = time.perf_counter()
        cached = LocalSimulator(model)
        started = time.perf_counter() - begin
        uncached = LocalSimulator(model, cached=False)

        def plain(sentence: str, pieces: list[str]) -> np.ndarray:
            prompt = uncached.whole_prompt(sentence, pieces)
            with torch.inference_mode():
                tokens = torch.tensor([prompt.ids], device=model.subject.device)
                return (
                    model.subject.model(input_ids=tokens, use_cache=False, logits_to_keep=torch.tensor(prompt.before))
                    .logits[0]
                    .float()
                    .cpu()
                    .numpy()
                )

        variants: dict[str, Callable[[str, list[str]], np.ndarray]] = {
            "cached": cached.distribution,
            "uncached": uncached.distribution,
            "plain": plain,
        }
        for variant in variants.values():
            variant("a first time", texts[0])
        wall: dict[str, list[float]] = {name: [] for name in variants}
        cpu: dict[str, list[float]] = {name: [] for name in variants}
        furthest = 0.0
        for number in range(rounds):
            sentence = f"{SENTENCES[number % len(SENTENCES)]} ({number})"
            spent = {name: [0.0, 0.0] for name in variants}
            for place, text in enumerate(texts[number * records : (number + 1) * records]):
                names, found = list(variants), dict[str, np.ndarray]()
                for name in names[place % 3 :] + names[: place % 3]:
                    start, used = time.perf_counter(), time.process_time()
                    found[name] = variants[name](sentence, text)
                    spent[name][0] += time.perf_counter() - start
                    spent[name][1] += time.process_time() - used
                values = np.abs((found["cached"] - found["uncached"]) @ np.arange(11))
                furthest = max(furthest, float(values.max(initial=0.0)))
            for name, (seconds, used) in spent.items():
                wall[name].append(seconds / records)
                cpu[name].append(used / records)

        def ratio(times: dict[str, list[float]], other: str) -> float:
            return statistics.median(a / b for a, b in zip(times["cached"], times[other], strict=True))

        return {
            "machine": machine(),
            "dtype": dtype,
            "threads": torch.get_num_threads(),
            "rounds": rounds,
            "records": records,
            "recipe": cached.recipe,
            "prompt_tokens": len(uncached.whole_prompt(SENTENCES[0], texts[0]).ids),
            "tokens_read_a_record": len(cached.prompt(SENTENCES[0], texts[0])[1].ids),
            "start_seconds": started,
            **{f"{name}_seconds_a_record": statistics.median(times) for name, times in wall.items()},
            "ratio_wall": ratio(wall, "uncached"),
            "ratio_cpu": ratio(cpu, "uncached"),
            "plain_ratio_cpu": ratio(cpu, "plain"),
            "largest_difference": furthest,
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options.rounds, options.records, options.dtype)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    else:
        for name, value in found.items():
            sys.stdout.write(f"{name}: {value}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
