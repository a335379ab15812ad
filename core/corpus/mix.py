"""What the embedded text is made of: its domains, what is left out and why, and how a passage is cleaned."""

import codecs
import html
import re
from dataclasses import dataclass

MIX = 1
"""Number of the recipe below: raise it with every change that changes the stream."""

SHORTEST = 24
"""Characters that a passage must have at least: a shorter one is half a dozen tokens, and would be counted like a whole context."""


@dataclass(frozen=True)
class Domain:
    """A label, its share of the contexts in percent, and its data sets: a name, or a name and the one `target` whose rows are taken."""

    label: str
    share: int
    sets: tuple[str | tuple[str, str], ...]
    code: bool = False
    ending: re.Pattern[str] | None = None
    """What is taken off the end of each text."""


DOMAINS: tuple[Domain, ...] = (
    Domain(
        "web",
        18,
        (
            "56_wikidatasex_or_gender",
            "57_wikidatais_alive",
            "58_wikidatapolitical_party",
            "59_wikidata_occupation_isjournalist",
            "60_wikidata_occupation_isathlete",
            "61_wikidata_occupation_isactor",
            "62_wikidata_occupation_ispolitician",
            "63_wikidata_occupation_issinger",
            "64_wikidata_occupation_isresearcher",
        ),
    ),
    Domain("news", 15, (("161_agnews_0", "1"), ("162_agnews_1", "1"), ("163_agnews_2", "1"), "97_news_class", ("100_news_fake", "1"))),
    Domain("forum", 10, ("48_cm_correct", "49_cm_isshort")),
    Domain("stories", 9, ("45_context_ans",), ending=re.compile(r"\n[^\n]*\nA\. [^\n]*\Z")),
    Domain("reviews", 8, ("111_yelp_data", "157_amazon_5star")),
    Domain("questions", 7, ("90_glue_qnli", ("36_sciq_tf", "1"), ("41_truthqa_tf", "correct"), "44_phys_tf", "55_open_qa")),
    Domain("medical", 6, ("101_disease_class",)),
    Domain("sentences", 5, ("88_glue_mnli", "93_glue_stsb", "54_cs_tf", "50_deon_isvalid", "51_just_is")),
    Domain("essays", 5, ("94_ai_gen",)),
    Domain("python", 4, (("159_code_Python", "1"),), code=True),
    Domain("c", 3, (("158_code_C", "1"),), code=True),
    Domain("html", 2, (("160_code_HTML", "1"),), code=True),
    Domain("messages", 3, ("102_twt_emotion", ("96_spam_is", "0"))),
    Domain(
        "fragments",
        3,
        ("72_gene-expression", "73_control-group", "74_magnetic-field", "75_cell-lines", "76_trial-court", "84_clinical-trials"),
    ),
    Domain("headlines", 2, ("21_headline_istrump", "25_headline_year", "26_headline_isfrontpage", ("105_click_bait", "factual"))),
)

LEFT_OUT: dict[str, str] = {
    "106_hate_hate": "tweets collected as hate speech",
    "107_hate_offensive": "tweets collected as offensive language; its harmless rows come from the same collection",
    "95_toxic_is": "prompts collected because a chat model should refuse them: violence and explicit sex",
    "96_spam_is, target 1": "spam messages, many of them for adults",
    "100_news_fake, target 0": "fake news and propaganda",
    "105_click_bait, target clickbait": "invented sensations",
    "91_glue_qqp": "questions of a public forum, among them explicit ones and cries for help",
    "99_sci_cat": "one-line remarks of a forum",
    "92_glue_sst2, 113_movie_sent, 89_glue_mrpc": "texts whose punctuation was torn off (“do n't”)",
    "110_aimade_humangpt3": "tweets and machine paraphrases mixed without a mark",
    "52_virtue_is, 86_social_iqa": "a template around every text",
    "98_cancer_cat, 142 to 144": "articles with words and figures lost",
    "103_it_tick, 151 to 153": "tickets reduced to bags of words",
    "2 to 30, 108, 109, 114 to 128, 154 to 156": "lists of names and titles, too short for contexts; 22 to 24 are more headlines",
    "37 to 40, 129, 70_prime-factors, 77_second-derivative": "generated arithmetic",
    "42, 43, 46, 47, 87, 130 to 135": "questions without their text, and single odd sentences",
    "65 to 85 but six of them": "fragments like those of the six that are read",
    "112, 136 to 150, 158 to 163 target 0": "copies of texts that are read, or code in an unknown language",
}
"""What is not read, and why. The first three are the ones collected for being harmful."""

# Explicit or abusive words (a star stands for any ending), kept out of sight by rot13. A passage with one of them is left out: the mix is
# for browsing in company.
_UNWANTED_WORDS = """
shpx* zbgureshpx* phag* avtt* snttbg* snt sntf ergneq* ovgpu* juber* fyhg* qvyqb* cbea* chffl chffvrf pbpxfhpx*
oybjwbo* betnfz* znfgheong* encvfg* encrq encr encrf encvat vaprfg* crqbcuvy* cnrqbcuvy* xvxr xvxrf puvax puvaxf fcvp
fcvpf jrgonpx* genaal genaavrf qlxr qlxrf pbpx pbpxf qvpxurnq* gvgf gvggvrf obbo obbof nany phz phzfubg* cravf intvan*
pyvgbe* rerpgvba* ubeal guerrfbzr* ahqr ahqrf fuvg* ohyyfuvg nffubyr* qhzonff* pbba pbbaf gbjryurnq* enturnq* tbbx
tbbxf ornare* qvpx qvpxf jnax* gjng* onfgneq*
"""
_UNWANTED = re.compile(rf"\b(?:{'|'.join(codecs.decode(_UNWANTED_WORDS, 'rot13').split())})\b".replace("*", r"\w*"), re.IGNORECASE)
_LICENCE = re.compile(
    r"Apache License|General Public License|WITHOUT (?:ANY )?WARRANT|Redistribution and use|Permission is hereby granted|\bAS IS\b"
)
_BARE_ENTITY = re.compile(r"\s?(?<!&)(#\d{2,5}|\bquot|\bamp|\blt|\bgt);")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\(n|r|t|\"|'|\$|\*|_|>)")
_BREAK = re.compile(r"<br\s*/?>")
_LINK = re.compile(r"</?a\b[^<>]*>", re.IGNORECASE)
_NAMED = {"n": "\n", "r": "", "t": "\t"}


def fit(passage: str, domain: Domain) -> str | None:
    """The passage as it is shown, or None when it is too short, unwanted, or nothing but a licence."""
    shown = passage if domain.code else cleaned(passage)
    if len(shown.strip()) < SHORTEST or _UNWANTED.search(shown) or (domain.code and _LICENCE.search(shown)):
        return None
    return shown


def cleaned(text: str) -> str:
    """Prose without what scraping did to it: HTML entities (`&amp;`, ` #39;`), links, `<br>`, escapes (`\\n`, `\\u00e9`)."""
    text = html.unescape(_BARE_ENTITY.sub(lambda match: f"&{match[1]};", text))
    text = _LINK.sub("", _BREAK.sub("\n", text))
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)) if match[1] else _NAMED.get(match[2], match[2]), text)
    return text.encode("utf-8", "replace").decode()
