"""Small tokenizers of the families in use, each with its makers' pipeline and a vocabulary made here, and tiny models that have them."""

from collections.abc import Callable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel, WordPiece
from tokenizers.processors import TemplateProcessing
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tests.models import randomise

_WORDS = ["unknown", "neuron", "activations", "explanation", "fires", "on", "the", "of", "text", "start", "end"]


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that build each word from its left end."""
    found: dict[tuple[str, str], None] = {}
    for word in words:
        for at in range(1, len(word)):
            found[(word[:at], word[at])] = None
    return list(found)


def _bpe(alphabet: list[str], words: list[str], **options: object) -> BPE:
    merges = _merges(words)
    tokens = list(dict.fromkeys([*alphabet, *("".join(pair) for pair in merges)]))
    return BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=merges, **options)


def _byte_level(words: list[str], pre: pre_tokenizers.PreTokenizer) -> Tokenizer:
    backend = Tokenizer(_bpe(sorted(pre_tokenizers.ByteLevel.alphabet()), words))
    backend.pre_tokenizer = pre
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    return backend


def _sentencepiece(alphabet: str, words: list[str], first: list[str]) -> Tokenizer:
    """BPE over characters with `▁` for a space, and bytes for whatever has no token."""
    every = ["<unk>", "<s>", "</s>", *first, *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    return Tokenizer(_bpe(list(dict.fromkeys(every)), words, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))


def gpt2() -> Tokenizer:
    """OpenAI GPT-2: words with their space, numbers of any length; here 10 is a token, and so is a double line break."""
    return _byte_level([*_WORDS, "10", "ĊĊ", "Ġ1", "Ġ5", "Ġtext"], pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3() -> Tokenizer:
    """Llama 3: up to three digits together, and a tab may join the letters after it."""
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level([*_WORDS, "10", "ĉunknown", "Ġtext"], pre_tokenizers.Sequence([split, byte_level]))


def qwen() -> Tokenizer:
    """Qwen 2: like Llama 3, but every digit by itself."""
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _byte_level([*_WORDS, "10", "Ġtext"], pre_tokenizers.Sequence([split, byte_level]))


def smollm() -> Tokenizer:
    """SmolLM2: GPT-2's split after digits have been set apart."""
    parts = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    return _byte_level([*_WORDS, "10", "Ġtext"], pre_tokenizers.Sequence(parts))


def llama2() -> Tokenizer:
    """Llama 2: every text begins with a space, spaces are `▁`, digits stay apart, tabs and line breaks are bytes."""
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;<>'\"-()"
    backend = _sentencepiece(letters, [*_WORDS, "▁the", "▁5"], [])
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def gemma() -> Tokenizer:
    """Gemma: no space is put in front, tabs and runs of line breaks are tokens, digits stay apart."""
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;<>'\"-()\t\n"
    backend = _sentencepiece(letters, [*_WORDS, "▁the", "\n\n", "\t\t"], ["<bos>"])
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return backend


def byte_by_byte() -> Tokenizer:
    """One token a byte."""
    return _byte_level([], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))


def word_piece() -> Tokenizer:
    """BERT: white space only parts words, so tabs are lost."""
    vocab = ["[UNK]", *_WORDS, *map(str, range(11)), "<", ">"]
    backend = Tokenizer(WordPiece({word: number for number, word in enumerate(vocab)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


def words_without_numbers() -> Tokenizer:
    """A fixed list of words in which tabs are kept and numbers are not."""
    vocab = ["[UNK]", *_WORDS, "\t", "\n", " "]
    backend = Tokenizer(WordLevel({word: number for number, word in enumerate(vocab)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s|\S+"), "isolated")
    return backend


def digits_in_two() -> Tokenizer:
    """A byte-level tokenizer that puts a mark before every digit."""
    backend = byte_by_byte()
    backend.normalizer = normalizers.Replace(Regex("([0-9])"), "#1")
    return backend


def pairs_of_digits() -> Tokenizer:
    """10 is written with tokens that 1 and 0 are not written with."""
    backend = byte_by_byte()
    backend.normalizer = normalizers.Replace("10", "ten")
    return backend


LIMIT = 6000
"""Tokens that the models made here read at most, if nothing else is said."""
WHOLE: dict[str, Callable[[], Tokenizer]] = {"gpt2": gpt2, "llama3": llama3}
DIGITS: dict[str, Callable[[], Tokenizer]] = {
    "qwen": qwen,
    "smollm": smollm,
    "llama2": llama2,
    "gemma": gemma,
    "byte_by_byte": byte_by_byte,
}
REFUSED: dict[str, tuple[Callable[[], Tokenizer], str]] = {
    "word_piece": (word_piece, "no token for tabs"),
    "words_without_numbers": (words_without_numbers, "no token for 0"),
    "digits_in_two": (digits_in_two, "writes 0 as"),
    "pairs_of_digits": (pairs_of_digits, "writes 10 as"),
}


def family(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer by its name in WHOLE, DIGITS or REFUSED. Its BOS, where the family has one, begins every text."""
    made = (WHOLE | DIGITS | {name: maker for name, (maker, _) in REFUSED.items()})[name]()
    bos = {"llama2": "<s>", "gemma": "<bos>"}.get(name)
    if bos is not None:
        made.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))])
    unknown = {"llama2": "<unk>", "gemma": "<unk>", "word_piece": "[UNK]", "words_without_numbers": "[UNK]"}.get(name)
    end = "<|endoftext|>" if bos is None and unknown is None else None
    named = {key: value for key, value in {"bos_token": bos, "unk_token": unknown, "eos_token": end}.items() if value is not None}
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **named)


def save_model(folder: Path, name: str, limit: int = LIMIT, template: str | None = None) -> Path:
    """A tiny random Llama with a tokenizer of one family."""
    tokenizer = family(name)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(
        "llama",
        hidden_size=32,
        intermediate_size=48,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=limit,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config)
    randomise(model, 0)
    model.save_pretrained(folder)
    return folder
