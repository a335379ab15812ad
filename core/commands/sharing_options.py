"""The options of the commands that share: `export`, `import` and `report`."""

import argparse
from collections.abc import Callable

COMMANDS = {
    "export": "core.commands.sharing:export",
    "import": "core.commands.sharing:import_",
    "report": "core.commands.sharing:report",
}
FORMATS = ("bundle", "openai", "openai-debugger", "neuronpedia", "table")
_WHAT = "a unit, such as smollm2-135m-instruct/mlp.5/neurons/1352, or a collection: its title or id"


def add_sharing(add: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the commands."""
    export = add("export", "Write units with all that is known of them into one file, for somebody without the model or the text.")
    export.add_argument("what", nargs="+", metavar="UNIT|COLLECTION", help=_WHAT)
    export.add_argument("--out", required=True, metavar="FILE", help="such as units.atlas.zip; a folder for openai and neuronpedia")
    export.add_argument(
        "--as",
        dest="format",
        choices=FORMATS,
        default="bundle",
        help="openai: NeuronRecord and scored explanations; openai-debugger: as Transformer Debugger names them; neuronpedia: gzipped "
        "lines in its layout; table: explanations, scores and findings as CSV, or as Parquet where the name ends in .parquet (bundle)",
    )
    export.add_argument("--run", help="the index run to take them from; the one over most tokens if not given")
    export.add_argument("--without-findings", action="store_true", help="leave out what people wrote on the units")
    taking = add("import", "Take in what somebody exported, here or with another program. Doing so twice changes nothing.")
    taking.add_argument(
        "file", metavar="PATH",
        help="a bundle; or files of OpenAI's neuron records, Neuronpedia, SAEDashboard or delphi's cache: one, a folder or a zip",
    )  # fmt: skip
    taking.add_argument(
        "--model", default="", metavar="NAME", help="what the model of another program's files is called, where they do not say"
    )
    taking.add_argument("--units", default="", metavar="A-B", help="which units of another program's files, by number, such as 0-999 (all)")
    taking.add_argument("--tokenizer", default="", metavar="FILE", help="a tokenizer.json, for tokens that come as numbers (delphi's)")
    report = add("report", "Write units, a comparison or a study as one HTML page that opens anywhere, without a network.")
    report.add_argument("what", nargs="*", metavar="UNIT|COLLECTION", help=_WHAT)
    report.add_argument("--compare", nargs="+", metavar="UNIT", help="two to four units side by side, and what they have in common")
    report.add_argument("--study", metavar="NAME", help="a study: its run’s id, or its name (layer, explainer, …) for the newest of it")
    report.add_argument("--html", required=True, metavar="FILE", help="such as units.html")
    report.add_argument("--run", help="the index run to read; the one over most tokens if not given")
