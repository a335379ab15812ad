"""The options of the command `findings`, with actions of its own."""

import argparse
from collections.abc import Callable

COMMANDS = {"findings": "core.commands.findings:findings"}


def add_findings(add: Callable[[str, str], argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add the command. shared: the options that every action takes, too."""
    actions = add("findings", "What people wrote on units: list it, and write.").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )

    def act(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[shared])

    listing = act("list", "List what was written, the newest first.")
    listing.add_argument("--unit", metavar="UNIT", help="only on this unit")
    listing.add_argument("--kind", help="note, rating, label, explanation, alike, collection or member")
    listing.add_argument("--label", help="only on units that have this label")
    listing.add_argument("--rating", metavar="N", help="only on units that anybody rated N or more")
    listing.add_argument("--collection", metavar="COLLECTION", help="only on units of this collection: its title or id")
    listing.add_argument("--by", metavar="NAME", help="only what this person saved last")
    listing.add_argument("--removed", action="store_true", help="what was taken away instead")
    adding = act("add", "Write a note on a unit, or one of the other things named here.")
    _unit(adding)
    adding.add_argument("text", nargs="?", metavar="TEXT", help="the note, in Markdown; - reads it from standard input")
    other = adding.add_mutually_exclusive_group()
    other.add_argument("--explanation", action="store_true", help="TEXT is your own explanation of the unit")
    other.add_argument("--alike", metavar="UNIT", help="the unit looks like this one")
    other.add_argument("--collection", metavar="COLLECTION", help="put it at the end of this collection, a new one if there is none")
    adding.add_argument("--entry", metavar="ID", help="save TEXT over this note or explanation instead of a new one")
    _author(adding)
    rating = act("rate", "Rate a unit from 1 to 5.")
    _unit(rating)
    rating.add_argument("rating", metavar="RATING", help="1 to 5, or none to take yours back")
    _author(rating)
    label = act("label", "Give a unit a label.")
    _unit(label)
    label.add_argument("label", metavar="LABEL")
    label.add_argument("--remove", action="store_true", help="take it off instead, whoever gave it")
    _author(label)
    history = act("history", "Print every version of an entry, the newest first.")
    history.add_argument("entry", metavar="ID", help="as `findings list` shows it")
    for name, text in (("undo", "Take back the last change of an entry."), ("remove", "Take an entry away; undo brings it back.")):
        changing = act(name, text)
        changing.add_argument("entry", metavar="ID", help="as `findings list` shows it")
        _author(changing)
    act("author", "Set the name that stands with what is written here.").add_argument("name", metavar="NAME", help="may be empty")


def _unit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("unit", metavar="UNIT", help="such as smollm2-135m-instruct/mlp.5/neurons/1352")


def _author(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--author", metavar="NAME", help="who writes this (as set with `findings author`)")
