"""The options of commands that load a model and read a text."""

import argparse


def add_model(parser: argparse.ArgumentParser) -> None:
    """`--model` and what goes with it."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model", default="smollm2-135m-instruct", metavar="PATH_OR_ID", help="a folder, hub id or known name (the embedded one)"
    )
    model.add_argument("--revision", help="of a hub id")
    model.add_argument("--architecture", metavar="PATHS", help="module paths of an unknown architecture: blocks=…,mlp=…,attn=…")
    add_device(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """`--dtype` and `--device`."""
    how = parser.add_argument_group("device")
    how.add_argument("--dtype", default="float32", help="float32 or bfloat16 (float32)")
    how.add_argument("--device", help="auto, cpu, cuda or mps (auto)")


def add_text(parser: argparse.ArgumentParser, source: str | None, contexts: int | None, says: str) -> None:
    """`--corpus` and how it is cut. source, contexts: defaults. says: what the default of contexts is, in words."""
    text = parser.add_argument_group("text")
    text.add_argument(
        "--corpus", default=source, metavar="PATH_OR_NAME", help=f"a file, a folder, a dataset's name, or embedded ({source or 'its own'})"
    )
    text.add_argument("--split", help="of a dataset (train)")
    text.add_argument("--field", help="the column or key that holds the text")
    text.add_argument("--contexts", type=int, default=contexts, help=f"how many ({says})")
    text.add_argument("--length", type=int, default=64, help="tokens in a context (64)")
    text.add_argument("--stride", type=int, help="tokens from one context's start to the next (the length)")
    text.add_argument("--bos", action=argparse.BooleanOptionalAction, default=None, help="put a BOS token first (what the tokenizer does)")
