"""Post-hoc methods: tau comes from the validation split, and what is reported is the test split with it."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from carlt.commands.evaluate import main
from carlt.config.compose import compose_config
from carlt.errors import CarltError
from carlt.evaluation import posthoc
from carlt.evaluation.evaluate import evaluate, evaluate_posthoc
from carlt.evaluation.posthoc import Method
from carlt.functional import class_offsets, tau_normalized, without_prior
from carlt.models.classifier import extract_features, get_classifier
from carlt.reporting.groups import group_by_data_set
from carlt.runs.reading import read_runs
from carlt.runs.record import read_result
from carlt.training import build
from carlt.training.module import LongTailClassifier


class Looks(NamedTuple):
    """What a fake split has."""

    images: torch.Tensor
    targets: torch.Tensor


class Looked:
    """Splits of labels alone: 'images' are how good each tau is for them."""

    name, validation = "fake", "split"

    def __init__(self, val: Sequence[float] | None, test: Sequence[float]):
        self.splits = self
        self.val = None if val is None else Looks(torch.tensor(val), torch.zeros(1, dtype=torch.int64))
        self.test = Looks(torch.tensor(test), torch.zeros(1, dtype=torch.int64))

    def evaluation_loader(self, split: Any) -> Any:
        return split


class Trainer:
    """Hands the 'images' on as they are."""

    def predict(self, module: Any, split: Any) -> list:
        return [(split.images[None], split.targets)]


class Module(torch.nn.Module):
    class_counts = torch.tensor([30, 3])


def right_where_told(seen: torch.Tensor, tau: float) -> torch.Tensor:
    """The k-th tau of 0, 1, 2 is right (class 0) if the k-th 'image value' is positive."""
    value = seen[0, int(tau)]
    return torch.stack([value, -value])[None]


METHOD = Method(outputs=lambda images: images, logits=right_where_told)


def choose(
    val: Sequence[float] | None, test: Sequence[float], tau: float | None = None, validation: str = "split"
) -> Any:
    data = Looked(val, test)
    data.validation = validation
    return posthoc.adjusted(Trainer(), Module(), data, METHOD, tau, grid=(0.0, 1.0, 2.0))  # type: ignore[arg-type]


def test_tau_is_the_validation_split_s_whatever_the_test_split_says() -> None:
    outcome = choose(val=[-1, 1, -1], test=[1, -1, 1])
    assert outcome.tau == 1
    assert [row["balanced_accuracy"] for row in outcome.curve] == [0, 1, 0]
    assert outcome.evaluations["test"].correct.tolist() == [0, 0]  # reported though other taus are right on test
    assert choose(val=[-1, 1, -1], test=[-1, 1, -1]).tau == 1
    assert choose(val=[-1, 1, 1], test=[-1, -1, 1]).tau == 1  # the smallest of equals


def test_tau_has_the_best_mean_over_classes_not_over_images() -> None:
    labels, answers = torch.tensor([0, 0, 0, 1]), {0.0: [0, 0, 0, 0], 1.0: [0, 1, 1, 1], 2.0: [1, 1, 1, 1]}
    data = Looked(None, [])
    data.val = data.test = Looks(torch.zeros(4), labels)
    method = Method(lambda images: images, lambda _, tau: torch.eye(2)[answers[tau]])
    assert posthoc.adjusted(Trainer(), Module(), data, method, grid=tuple(answers)).tau == 1  # type: ignore[arg-type]


def test_tau_may_be_given_but_is_never_chosen_on_test() -> None:
    outcome = choose(None, [1, -1, 1], tau=2.0)
    assert (outcome.tau, outcome.curve, list(outcome.evaluations)) == (2.0, [], ["test"])
    with pytest.raises(CarltError, match=r"has no validation split.*data\.val_per_class=.*tau=<number>"):
        choose(None, [1, 1, 1])
    with pytest.raises(CarltError, match=r"validates on its test split"):
        choose([1, 1, 1], [1, 1, 1], validation="test")


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(folder, "reg=none", "trainer.max_epochs=2")
    return folder


def test_records_are_rows_of_their_own(trained: Path) -> None:
    same, folder, _ = evaluate_posthoc(trained, "tau_norm", tau=0.0)
    assert folder == trained / "posthoc" / "tau_norm_0"
    trained_with = read_result(trained)["metrics"]
    assert {name: same["metrics"][name] for name in ("test/accuracy", "val/few")} == pytest.approx(
        {name: trained_with[name] for name in ("test/accuracy", "val/few")}
    )
    chosen, other, _ = evaluate_posthoc(trained, "logit_adjusted")
    assert other == trained / "posthoc" / "logit_adjusted"
    assert len(chosen["posthoc"]["curve"]) == 21
    best = max(row["balanced_accuracy"] for row in chosen["posthoc"]["curve"])
    assert chosen["metrics"]["val/balanced_accuracy"] == best
    for name in ("best", "bound"):  # of the trained classifier alone
        assert read_result(trained)[name] is not None
        assert chosen[name] is None
    runs, left_out = read_runs([trained])
    assert not left_out
    (data,) = group_by_data_set(runs)
    assert [len(group.runs) for group in data.groups] == [1, 1, 1]
    labels = [group.label for group in data.groups]
    assert any("posthoc=logit_adjusted" in label for label in labels)
    assert sum("posthoc" in label for label in labels) == 2
    assert all(label for label in labels)


def test_a_best_epoch_has_no_record_and_says_whether_the_test_split_chose_it(
    trained: Path, run, tmp_path: Path
) -> None:
    run(tmp_path / "run", "reg=none", "trainer.max_epochs=1", "data.validation=test")
    for folder, on_test in ((trained, False), (tmp_path / "run", True)):
        result, recorded, _ = evaluate_posthoc(folder, "logit_adjusted", 1.0, "best")
        assert recorded is None
        assert result["posthoc"]["chosen_on_test"] is on_test
        assert evaluate(folder, "best")["chosen_on_test"] is on_test


def test_against_the_network_itself(trained: Path) -> None:
    """Each image by itself, prior taken out by hand."""
    result, *_ = evaluate_posthoc(trained, "logit_adjusted", tau=1.5, which="last")
    from carlt.evaluation.evaluate import load, load_config

    module, data, *_ = load(trained, load_config(trained), "last")
    module.eval()
    right = 0
    with torch.no_grad():
        for images, labels in data.evaluation_loader(data.splits.test):
            right += int((without_prior(module(images), data.class_counts, 1.5).argmax(1) == labels).sum())
    assert result["metrics"]["test/accuracy"] == pytest.approx(right / len(data.splits.test))


def test_offsets_of_car_come_from_the_training_split_alone(trained: Path) -> None:
    """What the record holds gives its accuracy, image by image; with tau 0 the network is as it was."""
    from carlt.evaluation.evaluate import load, load_config

    result, folder, _ = evaluate_posthoc(trained, "car", overrides=["data.validation=none"])
    assert folder == trained / "posthoc" / "car"
    assert read_result(folder)["posthoc"] == result["posthoc"]
    posthoc = result["posthoc"]
    assert (posthoc["tau"], posthoc["chosen_on"], posthoc["curve"]) == (1.0, None, [])
    module, data, *_ = load(trained, load_config(trained), "last")
    module.eval()
    offset = torch.tensor(posthoc["offsets"]["offset"])
    seen, labels, right = [], [], 0
    with torch.no_grad():
        for images, label in data.evaluation_loader(data.splits.train):
            seen.append(module(images))
            labels.append(label)
        for images, label in data.evaluation_loader(data.splits.test):
            right += int(((module(images) + offset).argmax(1) == label).sum())
    expected = class_offsets(torch.cat(seen), torch.cat(labels), data.class_counts)
    assert offset == pytest.approx(expected.offset, abs=1e-3)
    assert posthoc["offsets"]["converged"]
    assert posthoc["offsets"]["imbalance"] < 0.01
    assert result["metrics"]["test/accuracy"] == pytest.approx(right / len(data.splits.test))
    chosen, *_ = evaluate_posthoc(trained, "car")
    taus = [row["tau"] for row in chosen["posthoc"]["curve"]]
    assert taus == pytest.approx([k / 10 for k in range(21)])
    assert chosen["posthoc"]["tau"] in taus
    assert chosen["posthoc"]["offsets"] == posthoc["offsets"]
    same, *_ = evaluate_posthoc(trained, "car", tau=0.0)
    assert same["metrics"]["test/accuracy"] == pytest.approx(read_result(trained)["metrics"]["test/accuracy"])


def test_other_images_are_refused(trained: Path) -> None:
    with pytest.raises(CarltError, match=r"trained or tested on other images than data\.imbalance_factor=10"):
        evaluate_posthoc(trained, "tau_norm", overrides=["data.imbalance_factor=10"])
    with pytest.raises(CarltError, match=r"tau=1e\+308: expected a finite number in \[0, 100\]"):
        evaluate_posthoc(trained, "logit_adjusted", tau=1e308)
    result, *_ = evaluate_posthoc(trained, "tau_norm", overrides=["data.val_per_class=5"])
    assert result["posthoc"]["overrides"] == ["data.val_per_class=5"]


def built(*words: str) -> LongTailClassifier:
    config = compose_config("train", ["++model.width=4", *words])
    return build.build_module(config, build.build_data(config)).eval()


def test_a_normalised_classifier_has_no_bias_and_that_of_tau_0_has() -> None:
    module = built()
    head = get_classifier(module.evaluated)
    torch.nn.init.normal_(head.bias)
    method = posthoc.tau_norm(module)
    with torch.no_grad():
        features = extract_features(module.evaluated, torch.randn(4, 1, 8, 8))
        torch.testing.assert_close(method.logits(features, 0.0), head(features))
        expected = features @ tau_normalized(head.weight, 2.0).T
        torch.testing.assert_close(method.logits(features, 2.0), expected)


@pytest.mark.parametrize("name", posthoc.METHODS)
def test_the_running_mean_of_the_weights_is_what_is_adjusted(name: str) -> None:
    module = built("++optim.ema_decay=0.9")
    for parameter in module.model.parameters():
        torch.nn.init.constant_(parameter, torch.nan)
    method = posthoc.METHODS[name](module)
    assert method.logits(method.outputs(torch.randn(4, 1, 8, 8)), 1.0).isfinite().all()


def test_what_a_method_cannot_change_is_said() -> None:
    with pytest.raises(CarltError, match=r"posthoc=tau_norm has no effect here"):
        posthoc.tau_norm(built("loss=ldam"))
    with pytest.raises(CarltError, match=r"needs a linear classifier, not ScaledClassifier"):
        posthoc.tau_norm(built("stage=lws"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("posthoc=tau",), r"posthoc=tau: choose from none, tau_norm, logit_adjusted, car"),
        (("posthoc=tau_norm", "tau=-1"), r"tau=-1: expected a finite number in \[0, 100\]"),
        (("tau=1",), r"tau=1: only with posthoc="),
        (("taus=1",), r"'taus=1' is none of run=, which=, trust=, posthoc=, tau="),
    ],
)
def test_mistakes_are_one_line(
    arguments: tuple[str, ...], message: str, trained: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr("sys.argv", ["evaluate", f"run={trained}", *arguments])
    with pytest.raises(SystemExit):
        main()
    captured = capsys.readouterr().err
    assert captured.count("\n") == 1
    assert re.search(message, captured)
