"""The command line, `python -m core`: every button of the dashboard as a command.

With `--json` a command prints one JSON document on standard output and nothing else. Progress and remarks go to standard error. What a
person did wrong is `error: ` and one sentence there, and the exit status 2.
"""

import argparse
import importlib
import io
import os
import shutil
import sys
import tempfile
from typing import NoReturn

from core.commands import (
    ablating_options,
    bases_options,
    explaining_options,
    findings_options,
    patching_options,
    searching_options,
    sharing_options,
    steering_options,
)
from core.commands.follow import INTERRUPTED, Interrupted
from core.commands.text_options import add_model, add_text
from core.errors import AtlasError, explain_os_error
from core.workspace import WORKSPACE_ENV, Workspace

_COMMANDS = {
    "doctor": "core.commands.doctor:doctor",
    "index": "core.commands.work:index",
    "runs": "core.commands.work:runs",
    "cancel": "core.commands.work:cancel",
    "resume": "core.commands.work:resume",
    "show": "core.commands.reading:show",
    "top": "core.commands.reading:top",
    **explaining_options.COMMANDS,
    **bases_options.COMMANDS,
    **ablating_options.COMMANDS,
    **steering_options.COMMANDS,
    **patching_options.COMMANDS,
    **sharing_options.COMMANDS,
    **findings_options.COMMANDS,
    **searching_options.COMMANDS,
    "rebuild": "core.commands.serving:rebuild",
    "serve": "core.commands.serving:serve",
}
"""Command -> `module:function`, imported when it is asked for: `runs` must not wait for torch."""


class _Parser(argparse.ArgumentParser):
    """Complains in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message[:1].upper()}{message[1:]}; `{self.prog} --help` explains.\n")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 (doctor found a fault), 2 (an error, told in a sentence), 130 (Ctrl-C)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf8", errors="backslashreplace")
    arguments = _parser().parse_args(argv)
    module, _, name = _COMMANDS[arguments.command].partition(":")
    own = tempfile.mkdtemp(prefix="neuron-atlas-") if getattr(arguments, "read_only", False) else None
    try:
        workspace = Workspace.open(arguments.workspace, own)
        status: int = getattr(importlib.import_module(module), name)(arguments, workspace)
        sys.stdout.flush()
        return status
    except AtlasError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except (Interrupted, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): no complaint, not even when Python flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        sys.stderr.write(f"error: {explain_os_error(error, f'doing “{arguments.command}”')}\n")
        return 2
    except ImportError as error:
        sys.stderr.write(f"error: The package {error.name} is missing or broken ({error}): `python -m core doctor` tells more.\n")
        return 2
    finally:
        if own is not None:  # a dashboard that has taken this process's place removes it itself
            shutil.rmtree(own, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    shared = _Parser(add_help=False)
    _add_common(shared, argparse.SUPPRESS, argparse.SUPPRESS)
    parser = _Parser(prog="python -m core", description="Neuron Atlas: what the neurons of a language model respond to.")
    _add_common(parser, None, False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text, parents=[shared])

    add("doctor", "Check that everything the program needs is here.")
    _add_index(add("index", "Index the units of a model over a text."))
    add("runs", "List runs, the newest first.").add_argument("--all", action="store_true", help="all of them, not only the last 20")
    add("cancel", "Stop a run; it can be resumed.").add_argument("run", metavar="RUN")
    resume = add("resume", "Go on with a run that failed or was cancelled, from its last finished part.")
    resume.add_argument("run", metavar="RUN")
    resume.add_argument("--detach", action="store_true", help="do not wait for its end")
    show = add("show", "Print what is known of one unit.")
    show.add_argument("unit", metavar="UNIT", help="such as smollm2-135m-instruct/mlp.5/neurons/1352")
    show.add_argument("--run", help="the index run to read; the one over most tokens if not given")
    top = add("top", "Print the units that fire strongest on a text.")
    top.add_argument("--text", required=True)
    top.add_argument("--model", metavar="SLUG", help="an indexed model's name; that of the largest index if not given")
    top.add_argument("--basis", help="neurons, or a dictionary's name: which index of the model (the largest)")
    top.add_argument("--run", help="the index run to compare with")
    top.add_argument("--n", type=int, default=20, help="how many units (20)")
    explaining_options.add_explaining(add)
    bases_options.add_bases(add, shared)
    ablating_options.add_ablate(add)
    steering_options.add_steer(add)
    patching_options.add_ioi(add)
    sharing_options.add_sharing(add)
    findings_options.add_findings(add, shared)
    searching_options.add_search(add)
    add("rebuild", "Make the cache again from the runs.")
    serve = add("serve", "Open the dashboard.")
    serve.add_argument("--port", type=int, default=8501, help="(8501)")
    serve.add_argument("--no-browser", action="store_true", help="do not open a browser")
    serve.add_argument("--read-only", action="store_true", help="browse and search only; beside another dashboard, too")
    serve.add_argument("--host", metavar="ADDRESS", help="listen there, such as 0.0.0.0: with --read-only or a login (127.0.0.1)")
    serve.add_argument("--base-path", metavar="PATH", help="the path below which a reverse proxy shows it, such as atlas")
    serve.add_argument("--login", metavar="FILE", help="a TOML file with [auth] and [access]: who may come in (docs/serving.md)")
    return parser


def _add_common(parser: argparse.ArgumentParser, workspace: str | None, json: bool | str) -> None:
    """The options that may stand before or after the command. The defaults of the latter must not overwrite the former's values."""
    parser.add_argument(
        "--workspace", metavar="FOLDER", default=workspace, help=f"where everything is kept (${WORKSPACE_ENV} or data/workspace)"
    )
    parser.add_argument("--json", action="store_true", default=json, help="print one JSON document")


def _add_index(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--basis", help="neurons, or the name of a dictionary (neurons)")
    parser.add_argument(
        "--sites", help="such as mlp.all, resid.0-5 or mlp.3,attn.3 (mlp.all; those that have the dictionary, where one is named)"
    )
    add_text(parser, "embedded", 4096, "4096")
    parser.add_argument("--workers", type=int, help="processes that share the work")
    parser.add_argument(
        "--keep-inputs", action="store_true", default=None, help="keep what the sites follow from: explaining then reads it, not the model"
    )
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")
