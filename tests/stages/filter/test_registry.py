from __future__ import annotations

import importlib
import sys

import pytest

from curate.pipeline.errors import CurateError, UsageError
from curate.stages.filter import decide, registry, signal, signals
from curate.stages.text import Segmented

PLUGIN = '''
from curate.stages.filter import signal

@signal("exclamation_fraction", unit="fraction of characters", source="ours")
def exclamation_fraction(texts):
    """Exclamation marks / characters."""
    return [text.count("!") / max(len(text), 1) for text in texts]
'''


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    """What a test registers is forgotten after it."""
    registry.registered()
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry.registered()))


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    def write(name, code):
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write


def test_a_users_signal_of_ten_lines_is_measured_and_ruled_on(plugin):
    plugin("my_signals_a", PLUGIN)
    table = signals(["Hey!!", "", "calm"])
    assert table.column("exclamation_fraction").to_pylist() == [pytest.approx(0.4), 0, 0]
    keep, failed = decide(table, {"exclamation_fraction": {"max": 0.1}})
    assert keep.tolist() == [False, True, True]
    assert (failed[0][0].rule, failed[0][0].value) == ("exclamation_fraction", pytest.approx(0.4))


def test_a_users_signal_may_use_the_segments_and_the_edited_text():
    @signal("kept_line_count", unit="lines", source="ours", text="edited", kind="int")
    def kept_line_count(texts: Segmented):
        return texts.lines.count

    table = signals(["one\nthese are three words"], ["kept_line_count"])
    assert table.to_pydict() == {"kept_line_count": [1]}


def test_a_name_that_is_taken_is_refused_and_says_where(plugin):
    plugin("my_signals_b", PLUGIN)
    with pytest.raises(
        UsageError, match=r"'exclamation_fraction' is registered twice: .*my_signals_b.py:4 and .*my_signals_c.py:4"
    ):
        plugin("my_signals_c", PLUGIN)
    with pytest.raises(UsageError, match=r"'word_count' is registered twice: .*gopher.py"):
        plugin("my_signals_d", PLUGIN.replace("exclamation_fraction", "word_count"))


def test_importing_the_same_plugin_again_is_no_second_signal(plugin):
    importlib.reload(plugin("my_signals_e", PLUGIN))
    assert signals(["!"], ["exclamation_fraction"]).to_pydict() == {"exclamation_fraction": [1.0]}


@pytest.mark.parametrize("name", ["Word Count", "9lives", "", "language", "id"])
def test_a_name_that_cannot_be_a_column_is_refused(name):
    with pytest.raises(UsageError, match="a name is made of"):
        signal(name, unit="words", source="ours")


@pytest.mark.parametrize(
    ("values", "message"), [([1.0], "shape"), ([1.0, float("nan")], "finite"), (["a", "b"], "finite")]
)
def test_a_signal_that_gives_no_finite_number_for_each_text_is_an_error_that_names_it(values, message):
    signal("broken", unit="x", source="ours")(lambda texts: values)
    with pytest.raises(CurateError, match=f"'broken'.*{message}"):
        signals(["a", "b"], ["broken"])


def test_an_exception_in_a_signal_keeps_its_traceback_and_names_the_signal():
    signal("failing", unit="x", source="ours")(lambda texts: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        signals(["a"], ["failing"])
    assert caught.value.__notes__ == ["in the signal 'failing'"]


def test_every_signal_of_ours_says_unit_source_definition_and_text():
    for known in registry.registered().values():
        assert known.unit
        assert known.source
        assert known.definition, known.name
        assert known.text in ("extracted", "edited")
