"""Which listener runs: the compiled one only where it fits the picows that is installed."""

import sys
import warnings
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

from dromos.dialers import PicowsDialer, _choice
from dromos.dialers._choice import SWITCH, choose, module_for
from dromos.dialers._link import PicowsLink
from dromos.dialers._listener import PythonListener
from tests.compiled import EXPECTED


class Built(PythonListener):
    """Stands for a listener that was compiled for picows 7.8.9."""


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(module_for("7.8.9"))
    module.Listener = Built  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delenv(SWITCH, raising=False)


def test_what_was_compiled_for_the_picows_that_runs_is_taken() -> None:
    assert Built is choose("7.8.9")


@pytest.mark.parametrize("version", ["7.8.8", "7.8.10", "7.8.9.post1", "7.8.9+patched", "17.8.9"])
def test_what_was_compiled_for_another_picows_is_not_even_loaded(version: str) -> None:
    assert PythonListener is choose(version)


def test_a_variable_has_everything_run_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "1")

    assert PythonListener is choose("7.8.9")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("raise ValueError('size changed')", id="a structure that shrank"),
        pytest.param(
            "import warnings; warnings.warn('a.B size changed', RuntimeWarning); Listener = object",
            id="a structure that has grown",
        ),
        pytest.param("raise ImportError('undefined symbol')", id="a symbol that is missing"),
        pytest.param("", id="no listener in it"),
    ],
)
def test_what_does_not_load_leaves_it_to_python(
    body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module_for("0.0.1")
    (tmp_path / f"{name.rpartition('.')[2]}.py").write_text(body)
    monkeypatch.setattr("dromos.dialers.__path__", [str(tmp_path)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as where nobody asks for errors
        assert PythonListener is choose("0.0.1")

    sys.modules.pop(name, None)


WARNS_ELSEWHERE = """
import threading, warnings

def elsewhere():
    try:
        warnings.warn("old", DeprecationWarning)
    except DeprecationWarning as error:
        Listener.raised.append(error)

class Listener:
    raised = []

thread = threading.Thread(target=elsewhere)
thread.start()
thread.join()
"""


def test_what_other_threads_warn_of_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Filters are the process's, and the first session may begin beside any other work."""
    name = module_for("0.0.1")
    (tmp_path / f"{name.rpartition('.')[2]}.py").write_text(WARNS_ELSEWHERE)
    monkeypatch.setattr("dromos.dialers.__path__", [str(tmp_path)])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = choose("0.0.1")

    sys.modules.pop(name, None)
    assert [] == vars(found)["raised"]


def test_the_dialer_tells_which_one_its_links_have() -> None:
    in_python = isinstance(PicowsLink.on_ws_frame, FunctionType)

    assert PicowsDialer.compiled is not in_python
    assert _choice.COMPILED is PicowsDialer.compiled


@pytest.mark.skipif(not EXPECTED, reason="make compiled-test compiles first")
def test_the_compiled_listener_is_the_one_that_runs() -> None:
    assert PicowsDialer.compiled
    assert not isinstance(PicowsLink.on_ws_frame, FunctionType)
    assert PythonListener not in PicowsLink.__mro__
    assert Path(sys.modules[module_for(_choice.picows_version)].__file__ or "").suffix != ".py"
