"""``python -m carlt`` names the commands, to those who try what other programs have."""

import importlib
from importlib.metadata import distribution

import pytest

from carlt.__main__ import COMMANDS, main


def test_each_is_a_module_and_a_script() -> None:
    scripts = {point.name: point.value for point in distribution("carlt").entry_points}
    assert scripts == {f"carlt-{name}": f"carlt.{name}:main" for name in COMMANDS}
    assert all(callable(importlib.import_module(f"carlt.{name}").main) for name in COMMANDS)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"]])
def test_it_lists_them(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["carlt", *words])
    main()
    shown = capsys.readouterr().out
    assert all(f"python -m carlt.{name} " in shown for name in COMMANDS)


@pytest.mark.parametrize(("words", "command"), [(["train", "seed=1"], "train"), (["trian"], "<command>")])
def test_other_words_are_one_line(
    words: list[str], command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["carlt", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"error: {words[0]}: write python -m carlt.{command} ..." in capsys.readouterr().err
