"""Names of languages, the stop words that come with curate, and the rules by language of the recipe `multilingual`."""

from __future__ import annotations

import json
import re
import tarfile

import pytest

from curate.pipeline.recipe import load_recipe
from curate.stages.dedup.config import DedupConfig
from curate.stages.extract.config import ExtractConfig
from curate.stages.filter import decide, signals
from curate.stages.filter.config import LID_176_LANGUAGES, FilterConfig
from curate.stages.filter.languages import DATA, canonical, is_wanted, missing, shipped, stop_words
from support import shared_data

SENTENCES = {
    "ar": "ذهب الرجل إلى السوق في الصباح ولم يجد ما يريد، و رجع إلى البيت على مهل.",
    "cs": "Když se vrátil domů, zjistil, že je na stole dopis, ale nebylo to to, co si myslel.",
    "da": "Når det regner, er der ikke mange på gaden, og de fleste bliver hjemme med en bog.",
    "de": "Die alte Brücke ist seit dem Winter nicht mehr sicher, und das Geld für den Neubau fehlt.",
    "el": "Το πρωί πήγε στο λιμάνι για να δει τα πλοία και δεν βρήκε κανέναν από τους φίλους του.",
    "en": "The keys have to be with the caretaker, and that is the end of the matter.",
    "es": "El puente de la aldea no se puede cruzar en invierno por el hielo que cubre las tablas.",
    "fi": "Kun se oli valmis, hän sanoi että talo on suuri, mutta ei kaunis, ja lähti.",
    "fr": "Le pont du village est fermé en hiver, et les enfants ne vont pas à l'école pour des semaines.",
    "hi": "गाँव के पुल पर बहुत भीड़ है और लोग घर से बाहर भी नहीं निकलते हैं।",
    "hu": "Az orvos azt mondta, hogy nem kell egy percet is várni, és meg is jött.",
    "it": "Il ponte del paese non si può usare in inverno per la neve che copre le strade.",
    "ja": "村の橋は冬になると渡れない。雪がたくさん降るからである。",
    "ko": "이 마을의 모든 집은 그 강 옆에 있고 다른 길은 없다. 걸어서 갈 수 있다.",
    "nl": "De brug van het dorp is in de winter niet te gebruiken, en dat is voor een boer een ramp.",
    "pl": "Na moście nie było nikogo, bo jest zimno i to się nie zmieni do wiosny.",
    "pt": "A ponte da aldeia não se usa no inverno, e para os que moram do outro lado é um problema que dura.",
    "ro": "Podul din sat nu se folosește iarna, iar oamenii care trec cu căruța pe gheață au o problemă mai mare.",
    "ru": "Он не знал, что мост закрыт, и пошёл по льду, как все.",
    "sv": "Bron är stängd på vintern, och det är inte så lätt att ta sig till skolan.",
    "tr": "Bu köprü kışın kapalı ve köyde çok az insan için bir sorun.",
    "uk": "Він не знав, що міст закрито, і пішов на лід за всіма.",
    "vi": "Cây cầu của làng không được dùng trong mùa đông và đó là một vấn đề cho các em.",
    "zh": "村里的桥在冬天不能走，这是因为雪太大了。",
}
"""Written for this test."""

SECTIONS = {"extract": ExtractConfig, "filter": FilterConfig, "dedup": DedupConfig}


@pytest.fixture(scope="module")
def multilingual():
    return load_recipe("multilingual", SECTIONS).section("filter")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("de", "de"), ("deu", "de"), ("ger", "de"), ("deu_Latn", "de"), ("__label__deu_Latn", "de"), ("de-AT", "de"),
        ("DE", "de"), ("zh", "zh"), ("cmn_Hani", "zh"), ("zho_Hant", "zh"), ("zh-Hant-TW", "zh"), ("yue_Hani", "yue"),
        ("arb_Arab", "ar"), ("arz_Arab", "arz"), ("nob_Latn", "no"), ("nb", "no"), ("no", "no"), ("nno_Latn", "nn"),
        ("ekk_Latn", "et"), ("lvs_Latn", "lv"), ("zsm_Latn", "ms"), ("pes_Arab", "fa"), ("swh_Latn", "sw"),
        ("fil_Latn", "tl"), ("iw", "he"), ("pt_BR", "pt"), ("als", "als"), ("als_Latn", "sq"), ("gsw_Latn", "gsw"),
        ("hin_Deva", "hi"), ("hin_Latn", "hi_Latn"), ("srp_Latn", "sr"), ("kmr_Latn", "ku"), ("ckb_Arab", "ckb"),
        ("xyz_Latn", "xyz"), ("news", "news"), ("", ""), (None, None),
    ],
)  # fmt: skip
def test_a_language_has_one_name_whichever_model_named_it(label, name):
    assert canonical(label) == name
    assert canonical(name) == name


def test_the_labels_of_lid_176_are_canonical():
    assert {canonical(label) for label in LID_176_LANGUAGES} == LID_176_LANGUAGES


def test_a_wanted_language_means_all_its_labels_and_a_wanted_label_that_alone():
    labels = ["deu_Latn", "zho_Hans", "zho_Hant", "eng_Latn", "hin_Latn", "hin_Deva", None]
    assert [is_wanted(label, ["de", "zh"]) for label in labels] == [True, True, True, False, False, False, False]
    assert [is_wanted(label, ["zho_Hant", "hi"]) for label in labels] == [False, False, True, False, False, True, False]
    assert is_wanted("de", ["deu"]) and not is_wanted("de", ["deu_Latn"])


def test_a_wanted_language_that_no_label_means_is_named_with_the_nearest():
    labels = ["deu_Latn", "cmn_Hani", "nob_Latn"]
    assert missing(["de", "zh", "no", "cmn_Hani"], labels, "m.bin") is None
    assert missing(["deu_Grek"], labels, "m.bin") == "m.bin knows no language 'deu_Grek'; did you mean 'deu_Latn'?"
    assert missing(["german"], labels, "m.bin") == "m.bin knows no language 'german'; give its code, such as de or deu"
    many = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}q_Latn" for n in range(600)]
    assert missing(["@"], many, "m.bin") == "m.bin knows no language '@'"  # does not list six hundred


def test_stop_words_are_the_recipes_own_then_ours_then_the_published_ones():
    assert stop_words("en", {}) == ("the", "be", "to", "of", "and", "that", "have", "with")
    assert stop_words(None, {}) == stop_words("xx", {}) == stop_words("en", {})
    assert stop_words("deu_Latn", {}) == stop_words("de", {}) == shipped()["de"]
    assert stop_words("de", {"deu": ["und", "oder"]}) == ("und", "oder")
    assert stop_words("fr", {"de": ["und", "oder"]}) == shipped()["fr"]
    assert stop_words("xx", {"en": ["the", "a"]}) == stop_words(None, {"en": ["the", "a"]}) == ("the", "a")


def test_every_list_is_well_formed():
    data = json.loads(DATA.read_text("utf-8"))
    assert any("CC-BY-SA 4.0" in line for line in data["about"])
    assert list(shipped()) == sorted(shipped())
    assert set(shipped()) <= LID_176_LANGUAGES
    for language, words in shipped().items():
        assert len(words) == len(set(words)) >= 8, language
        assert all(word == word.lower() and any(char.isalpha() for char in word) for word in words), language
        assert not {"a", "e", "i", "o", "l", "d"} & set(words), language


@pytest.mark.parametrize("language", SENTENCES)
def test_a_plain_sentence_holds_stop_words_of_its_language(language, multilingual):
    table = signals([SENTENCES[language]], ["stop_word_count"], languages=[language])
    least = multilingual.rules_by_language[language]["stop_word_count"].min
    assert table.column("stop_word_count")[0].as_py() >= least >= 2


def test_stop_words_of_another_alphabet_are_not_found():
    table = signals([SENTENCES["ru"], SENTENCES["ja"]] * 2, ["stop_word_count"], languages=["en", "el", "ar", "ko"])
    assert table.column("stop_word_count").to_pylist() == [0, 0, 0, 0]


@pytest.fixture(scope="module")
def declarations():
    """The Universal Declaration's text by the file's name, such as `deu_1996`."""
    found = {}
    with tarfile.open(shared_data("languages-charsets.tar.xz")) as tar:
        for member in tar:
            if "/udhr/" in member.name and member.name.endswith(".html"):
                body = tar.extractfile(member).read().decode().partition("<body")[2].partition(">")[2]
                text = re.sub(r"[^\S\n]+", " ", re.sub(r"<[^>]*>", " ", body))
                found[member.name.rpartition("/")[2].removesuffix(".html")] = re.sub(r"\s*\n\s*", "\n\n", text).strip()
    return found


OTHER_SCRIPTS = ("vie_han", "tgl_tglg")
"""Vietnamese in Han characters, Tagalog in its old script: no text of today."""


def test_the_declaration_in_each_language_has_its_stop_words_and_few_others_do(multilingual, declarations):
    """The bound on others is loose: Romance and Slavic languages share words."""
    codes = [canonical(name.partition("_")[0]) for name in declarations]
    for language in SENTENCES:
        least = multilingual.rules_by_language[language]["stop_word_count"].min
        texts = [text[:6000] for text in declarations.values()]
        counts = signals(texts, ["stop_word_count"], languages=[language] * len(texts)).column(0).to_pylist()
        own = [
            count
            for count, code, name in zip(counts, codes, declarations, strict=True)
            if code == language and name not in OTHER_SCRIPTS
        ]
        others = [count >= least for count, code in zip(counts, codes, strict=True) if code != language]
        assert own and min(own) >= least, language
        assert sum(others) / len(others) < 0.4, language


def test_the_declaration_passes_the_rules_in_nearly_every_language(multilingual, declarations):
    """In all that have rules of their own, and in 95 of 100 of the others."""
    languages = [canonical(name.partition("_")[0]) for name in declarations]
    needed = [name for name, rule in multilingual.rules.items() if rule is not None] + [
        name for rules in multilingual.rules_by_language.values() for name in rules
    ]
    table = signals(list(declarations.values()), sorted(set(needed)), languages=languages)
    keep, failed = decide(table, multilingual.rules, by_language=multilingual.rules_by_language, languages=languages)
    assert keep.mean() > 0.95
    for name, language, rules in zip(declarations, languages, failed, strict=True):
        if language in multilingual.rules_by_language and name not in OTHER_SCRIPTS:
            assert not rules, (name, rules)


def test_multilingual_gives_every_language_with_stop_words_a_rule_on_them(multilingual):
    assert multilingual.rules["stop_word_count"] is None
    for language in shipped():
        assert multilingual.rules_by_language[language]["stop_word_count"].min >= 2, language
    for language, rules in multilingual.rules_by_language.items():
        assert rules.get("stop_word_count") is None or language in shipped(), language


def test_english_in_multilingual_has_fineweb_s_rules(multilingual):
    """Laid over the rules for any language, the rules of English are the published ones."""
    published = load_recipe("fineweb", SECTIONS).section("filter").rules
    over = multilingual.rules_by_language["en"]
    for name, rule in published.items():
        base = multilingual.rules.get(name)
        bounds = (dict(base.bounds()) if base else {}) | (dict(over[name].bounds()) if name in over else {})
        assert bounds == dict(rule.bounds()), name
