"""All benches, one after another: `python -m bench [--quick] [--full] [--workspace DIR] [--json FILE] [BENCH ...]`.

Prints one table and writes everything that was measured as JSON. Each bench is a process of its own, so that none inherits another's
memory. Exit status 1 when a bench could not be run; a target missed is shown, not an error, because other work on the machine may be why.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.machine import load, machine
from bench.targets import table

ROOT = Path(__file__).resolve().parent.parent
BENCHES = ("indexer", "pages", "store_scale", "search", "simulator", "explaining", "features", "sae_step", "patching")
LIMIT_SECONDS = 3600.0


def arguments(bench: str, options: argparse.Namespace) -> list[str]:
    """What a bench is told. The store is tried at the size of GPT-2 XL only when asked for: that takes minutes and gigabytes."""
    if bench == "indexer":
        return ["--rounds", "5", "--warm", "256"] if options.quick else []
    if bench == "pages":
        given = [] if options.workspace is None else ["--workspace", str(options.workspace)]
        return [*given, *(["--quick"] if options.quick else [])]
    if bench == "simulator":
        return ["--rounds", "2", "--records", "2"] if options.quick else []
    if bench == "features":
        return ["--rounds", "4", "--warm", "256", "--units", "4608"] if options.quick else []
    if bench == "patching":
        return ["--features", "60", "--compared", "2"] if options.quick else []
    if bench == "sae_step":
        return ["--rounds", "2", "--settling", "40"] if options.quick else []
    if bench == "search":
        return ["--units", "20480", "--questions", "50"] if options.quick else []
    if bench == "explaining":
        return ["--units", "200"] if options.quick else []
    if options.full:
        return []
    return ["--layers", "4", "--width", "1024"] if options.quick else ["--layers", "12", "--width", "3072"]


def measure(bench: str, told: list[str]) -> dict[str, Any]:
    """One bench's figures, with how busy the machine was before. Its remarks go to standard error. Raises RuntimeError."""
    before, begin = load(), time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"bench.{bench}", *told, "--json"], cwd=ROOT, stdout=subprocess.PIPE, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"bench.{bench} was not done after {LIMIT_SECONDS / 60:g} minutes") from None
    if done.returncode:
        raise RuntimeError(f"bench.{bench} ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    if "query_median_ms" in found:
        found["slowest_query_ms"] = max(value for name, value in found["query_median_ms"].items() if name.startswith("explore"))
    return {**found, "arguments": told, "seconds": round(time.perf_counter() - begin, 1), "before": before}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "benches", nargs="*", choices=[*BENCHES, []], metavar="BENCH", help=f"of {', '.join(BENCHES)}; all if none is named"
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, smaller data: shows that it works, not how fast it is")
    parser.add_argument("--full", action="store_true", help="the store at the size of GPT-2 XL (307,200 units)")
    parser.add_argument("--workspace", type=Path, help="for pages: a workspace with an index, instead of making one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the JSON goes (bench/results/<date>.json)")
    options = parser.parse_args()
    target: Path = options.json or ROOT / "bench" / "results" / f"{time.strftime('%Y-%m-%d-%H%M')}.json"
    found: dict[str, Any] = {"machine": machine(), "date": time.strftime("%Y-%m-%d %H:%M")}
    failed = False
    for bench in options.benches or BENCHES:
        sys.stderr.write(f"{bench} …\n")
        try:
            found[bench] = measure(bench, arguments(bench, options))
        except RuntimeError as error:
            sys.stderr.write(f"error: {error}\n")
            found[bench] = {"failed": str(error)}
            failed = True
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(found, indent=1) + "\n", "utf8")
    sys.stdout.write(f"{found['machine']}\n")
    for bench in BENCHES:
        if bench in found and "before" in found[bench]:
            said = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found[bench]["before"].items())
            sys.stdout.write(f"before {bench}: {said}\n")
    sys.stdout.write(f"\n{table(found, full=options.full, judge=not options.quick)}\n{target}\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
