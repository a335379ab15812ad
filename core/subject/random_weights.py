"""The random-weights control: a model of the same shape that has learned nothing, as an ordinary folder of the workspace.

Scores on such a model say what the method finds where there is nothing to find (arXiv 2501.17727).
"""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from core.errors import explain_os_error
from core.subject.checkpoint import explained
from core.units import slugify
from core.workspace import Workspace, whole_folder

PREFIX = "random:"
"""Before a model's name: the same model with random weights."""
SEED = 0


def prepare(workspace: Workspace, path: str, commit: str | None, name: str) -> Path:
    """The folder of the model at `path` with the weights that its initialisation gives, made on first use. Raises AtlasError."""
    slug = f"{slugify(name)}-random"
    folder = workspace.subjects / slug / "weights" / slug
    if not (folder / "config.json").is_file():
        with explained(name, commit, "making random weights for"):
            config = AutoConfig.from_pretrained(path, revision=commit, trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path, revision=commit, trust_remote_code=False)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(SEED)
                model = AutoModelForCausalLM.from_config(config, trust_remote_code=False, dtype=torch.float32)
        try:
            with whole_folder(folder) as made:
                model.save_pretrained(made)
                tokenizer.save_pretrained(made)
        except OSError as error:
            raise explain_os_error(error, f"saving the random weights of {name}") from None
    return folder
