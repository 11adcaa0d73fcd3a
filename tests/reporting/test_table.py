import io
from pathlib import Path

import pytest
from rich.console import Console

from carlt.reporting import formats
from carlt.reporting.groups import group_by_data_set
from carlt.reporting.summary import summarize
from carlt.reporting.table import OF_A_RUN, percent, print_result, summary
from carlt.runs.reading import read_runs


def result(**changes: object) -> dict:
    metrics = {f"{split}/{name}": 0.25 for split in ("test", "train") for name in OF_A_RUN}
    return {
        "metrics": metrics | {"test/few": None, "test/classes_at_zero": 3.0},
        "worst_class": {"name": "axolotl", "train_count": 2, "test_accuracy": 0.125, "train_accuracy": 0.5},
        "num_classes": 10,
        "best": None,
        "data": {"name": "ponds"},
        "epochs": 7,
        "seed": 4,
        **changes,
    }


def printed(record: dict) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - lives as long as the console
    print_result(record, Path("/runs/a"), console)
    console.file.close()
    return console.export_text()


def test_percent() -> None:
    assert [percent(value) for value in (0.0, 0.1234, 1.0, None, float("nan"))] == ["0.0", "12.3", "100.0", "-", "-"]


def test_the_table_says_what_it_is_of() -> None:
    text = printed(result())
    for part in ("ponds, last epoch (7), seed 4", "axolotl (2 training images), 12.5 % on test, 50.0 % on train",
                 "Classes never right: 3 of 10", "Run folder: /runs/a"):  # fmt: skip
        assert part in text


def test_a_method_without_training_has_no_training_accuracy() -> None:
    record = result()
    record["worst_class"]["train_accuracy"] = None
    assert "12.5 % on test. Classes" in printed(record)


def test_a_post_hoc_method_stands_beside_the_network_before_it() -> None:
    screen = io.StringIO()
    before = dict.fromkeys(result()["metrics"], 0.125)
    print_result(result(), None, Console(file=screen, width=120), before=before)
    before_line, line = (text.split() for text in screen.getvalue().splitlines() if text.strip().startswith("test"))
    assert before_line[:4] == ["test,", "before", "12.5", "12.5"]
    assert line[:4] == ["test", "25.0", "25.0", "25.0"]


def test_the_words_of_a_run_are_no_markup() -> None:
    assert "pon[/x]ds [link=http://x]y[/link], last epoch" in printed(
        result(data={"name": "pon[/x]ds [link=http://x]y[/link]"})
    )


def test_what_has_no_record_has_no_folder() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    print_result(result(timings={"fit_s": 60}), None, console, epoch="best epoch, chosen on the TEST split")
    text = console.export_text()
    assert "ponds, best epoch, chosen on the TEST split (7), seed 4" in text
    assert not any(word in text for word in ("Training took", "Run folder", "Next:"))


def test_a_result_is_written_in_one_piece() -> None:
    screen = io.StringIO()
    pieces: list[str] = []
    screen.write = pieces.append  # type: ignore[method-assign,assignment]
    print_result(result(), Path("/runs/a"), Console(file=screen, width=120))
    (piece,) = [piece for piece in pieces if piece.strip()]
    assert "Next: python -m carlt.report /runs/a" in piece


def test_a_row_a_split_and_a_dash_for_an_empty_group() -> None:
    lines = {line.split()[0]: line.split()[1:] for line in printed(result()).splitlines() if line.strip()}
    assert lines["test"] == ["25.0", "25.0", "25.0", "-", "25.0", "25.0"]
    assert lines["train"] == ["25.0"] * 6
    assert "val" not in lines


@pytest.mark.parametrize("split", ["validation", "TEST"])
def test_the_best_epoch_is_labelled_by_what_chose_it(split: str) -> None:
    best = {
        "epoch": 4,
        "chosen_by": f"val/balanced_accuracy on the {split} split",
        "metrics": {"test/accuracy": 0.5, "test/worst_class": 0.1},
    }
    text = " ".join(printed(result(best=best)).split())
    assert f"Best epoch (5, by val/balanced_accuracy on the {split} split): test 50.0 %, worst class 10.0 %." in text


@pytest.mark.parametrize(
    ("width", "kept"),
    [(160, ["many", "medium", "few", "overall", "worst class", "WR", "worst 10 %", "classes at 0", "ECE"]),
     (80, ["few", "overall", "worst class", "worst 10 %"]), (50, ["few", "overall"])],
)  # fmt: skip
def test_a_terminal_draws_the_columns_that_fit(width: int, kept: list[str], make_run, tmp_path: Path) -> None:
    make_run("1", accuracy=0.2)
    make_run("2", accuracy=0.4, reg="[red]car")
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    table = summarize(data, data.baseline())[0]
    text = summary(table, Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None))
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    head = next(line for line in lines if "configuration" in line)
    assert head.split() == ["configuration", "n", *" ".join(kept).split()]
    ours, difference = (line.split() for line in lines if line.strip().startswith("reg=[red]car  "))
    place = 2 + kept.index("overall")
    assert (ours[:2], ours[place]) == (["reg=[red]car", "1"], "40.0")
    assert difference[place] == "+20.0"
    assert "proves nothing" in " ".join(text.split())
    assert ("too narrow for: " in text) == (len(kept) < 9)


def test_elsewhere_a_table_is_markdown(make_run, tmp_path: Path) -> None:
    make_run("1")
    (data,) = group_by_data_set(read_runs([tmp_path])[0])
    table = summarize(data, data.baseline())[0]
    assert summary(table, Console(file=io.StringIO(), width=160)) == formats.markdown(table)
