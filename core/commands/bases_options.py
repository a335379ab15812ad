"""The options of the commands about dictionaries: `sae` and `basis`, each with actions of its own."""

import argparse
from collections.abc import Callable

from core.bases.fit_request import BASELINES
from core.commands.text_options import add_device, add_model, add_text

COMMANDS = {"sae": "core.commands.bases:sae", "basis": "core.commands.bases:basis"}


def add_bases(add: Callable[[str, str], argparse.ArgumentParser], shared: argparse.ArgumentParser) -> None:
    """Add both commands. shared: the options that every action takes, too."""
    actions = add("sae", "Train, import, export, measure and list dictionaries.").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )

    def act(name: str, text: str) -> argparse.ArgumentParser:
        return actions.add_parser(name, help=text, description=text, parents=[shared])

    _add_train(act("train", "Train a sparse autoencoder on a site."))
    _add_import(act("import", "Load a published dictionary, from a path or by hub id."))
    export = act("export", "Write a dictionary in SAELens format.")
    _add_name(export)
    export.add_argument("--out", required=True, metavar="FOLDER", help="a new folder, for cfg.json and sae_weights.safetensors")
    _add_metrics(act("metrics", "Measure dictionaries on held-out text."))
    listing = act("list", "List the dictionaries of this workspace.")
    listing.add_argument("--subject", metavar="SLUG", help="only this model's")
    compare = act("compare", "How alike are two dictionaries: mean maximum cosine similarity, both ways.")
    _add_name(compare)
    compare.add_argument("other", metavar="OTHER")
    _add_name(act("remove", "Take a dictionary off the shelf, for good."))
    fitting = add("basis", "Make the baselines that dictionaries are held against.").add_subparsers(
        dest="action", required=True, metavar="ACTION"
    )
    text = "Fit PCA or ICA, draw random directions, or take the axes: each as ± directions."
    _add_fit(fitting.add_parser("fit", help=text, description=text, parents=[shared]))


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a dictionary's name, or subject/site/name")


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--site", required=True, help="such as resid.9, mlp.3 or attn.5")
    parser.add_argument("--head", type=int, help="only this head's part of an attn site")
    parser.add_argument("--name", default="sae", help="of the dictionary; with several alphas, the beginning of their names (sae)")
    how = parser.add_argument_group("how to train")
    how.add_argument("--kind", help="tied, with ReLU and L1 penalty as in the paper, or topk (tied)")
    how.add_argument("--ratio", type=float, help="units for each number of the site (4)")
    how.add_argument("--alpha", type=float, nargs="+", metavar="ALPHA", help="weight of the L1 penalty; several are trained at once (1)")
    how.add_argument(
        "--mse", metavar="HOW", help="what alpha stands beside: the squared error's sum over the site's numbers or their mean (sum)"
    )
    how.add_argument("--k", type=int, help="active units a token, of a topk dictionary (32)")
    how.add_argument("--k-aux", type=int, metavar="UNITS", help="dead units that the auxiliary term of topk takes (half as many as d)")
    how.add_argument("--aux-coefficient", type=float, metavar="SHARE", help="weight of that term (1/32)")
    how.add_argument("--tokens", type=int, default=1_000_000, help="tokens to train on, in several passes if the text has less (1000000)")
    how.add_argument("--batch", type=int, help="tokens in a step (256)")
    how.add_argument("--lr", type=float, help="learning rate of Adam (0.001)")
    how.add_argument("--bias-rate", type=float, metavar="TIMES", help="biases learn so many times as fast (the activations' mean norm)")
    how.add_argument("--warmup", type=float, metavar="SHARE", help="of the steps, in which the rate rises (0.02)")
    how.add_argument("--decay", type=float, metavar="SHARE", help="of the steps, in which the rate falls at the end (0.2)")
    how.add_argument("--centre", metavar="HOW", help="none, or per_token: take each token's mean off first (none)")
    how.add_argument("--scale", type=float, help="multiply activations by it (so that their mean norm is √d)")
    how.add_argument("--dead-tokens", type=int, metavar="TOKENS", help="a unit silent for so many counts as dead (a tenth of the tokens)")
    how.add_argument("--revive", action="store_true", help="give dead units of a tied dictionary new directions; not in the paper")
    how.add_argument("--seed", type=int, help="of the first weights and of the order (0)")
    work = parser.add_argument_group("how it goes")
    work.add_argument("--buffer", type=int, metavar="TOKENS", help="activation vectors that are mixed (65536)")
    work.add_argument("--block", type=int, metavar="CONTEXTS", help="read by the model at a time (32)")
    work.add_argument("--checkpoint-seconds", type=float, metavar="SECONDS", help="work that a kill may cost (60)")
    work.add_argument("--evaluations", type=int, metavar="TIMES", help="how often the loss recovered is looked at on the way (5)")
    add_model(parser)
    add_text(parser, "embedded", None, "as many as the tokens need")
    _add_detach(parser)


def _add_import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="a folder or file, or a hub id")
    parser.add_argument("--site", help="where it reads; what its files say if not given")
    parser.add_argument("--name", help="what to call it here")
    parser.add_argument("--revision", help="of the source, where that is a hub id")
    parser.add_argument("--file", metavar="PATH", help="which of several, below the source")
    parser.add_argument("--any-model", action="store_true", help="take it even if its files name another model")
    parser.add_argument(
        "--model", default="smollm2-135m-instruct", metavar="PATH_OR_ID", help="the model it is for: a folder, hub id or known name"
    )
    parser.add_argument("--corpus", default="embedded", metavar="PATH_OR_NAME", help="a little of it is read to measure it (embedded)")
    add_device(parser)
    _add_detach(parser)


def _add_metrics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="NAME", help="a dictionary's name, or subject/site/name")
    parser.add_argument("--stored", action="store_true", help="print what was measured last instead of measuring again")
    parser.add_argument("--contexts", type=int, help="held-out contexts to measure on, at most (2048)")
    parser.add_argument("--output-contexts", type=int, help="of those, how many the whole model reads; 0 for none (256)")
    parser.add_argument("--corpus", metavar="PATH_OR_NAME", help="the text (that of its training, else embedded)")
    parser.add_argument("--length", type=int, help="tokens in a context (as in training, else 64)")
    add_device(parser)
    _add_detach(parser)


def _add_fit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("families", nargs="+", metavar="BASELINE", help=", ".join(BASELINES))
    parser.add_argument("--site", "--sites", dest="sites", required=True, help="such as resid.9, or resid.0-5")
    parser.add_argument("--head", type=int, help="only this head's part of attn sites")
    parser.add_argument("--k", type=int, help="keep the k largest codes of a token (all)")
    parser.add_argument("--name", help="of the dictionary (pca, pca-k32 with --k 32, pca-h3 with --head 3)")
    parser.add_argument("--tokens", type=int, help="tokens for the mean and PCA, at most (262144)")
    parser.add_argument("--ica-tokens", type=int, help="tokens for ICA, at most (65536)")
    parser.add_argument("--ica-iterations", type=int, help="iterations of ICA, at most (200)")
    parser.add_argument("--seed", type=int, help="(0)")
    add_model(parser)
    add_text(parser, "embedded", 4096, "4096")
    _add_detach(parser)


def _add_detach(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach", action="store_true", help="do not wait for its end")
