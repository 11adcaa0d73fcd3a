"""What all data modules share, with splits made here: checksum, loaders' sizes, official facts, overview."""

import pytest
import torch

from carlt.data import loaders, overview
from carlt.data.facts import Facts
from carlt.data.images import ArrayImages, Split, Splits
from carlt.data.module import LongTailDataModule
from carlt.errors import CarltError


def array_splits(counts, test=None):
    """Splits of one-pixel images, ``counts[c]`` of class c; the training images are tested, too, unless given."""
    targets = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    train = Split(ArrayImages(torch.arange(len(targets), dtype=torch.uint8).view(-1, 1, 1, 1)), targets)
    return Splits(train, None, test or train, [f"class {c}" for c in range(len(counts))])


class Arrays(LongTailDataModule):
    """A data module of given splits."""

    name = "arrays"

    def __init__(self, splits, **loading):
        super().__init__(**loading)
        self.given = splits

    def load(self):
        return self.given


def test_other_labels_of_the_same_images_are_other_data():
    splits = array_splits([3, 2])
    other = Split(splits.train.images, splits.train.targets.flip(0))
    same, train, test = (
        Arrays(each).checksum()
        for each in (
            array_splits([3, 2]),
            Splits(other, None, splits.test, splits.class_names),
            Splits(splits.train, None, other, splits.class_names),
        )
    )
    assert same == Arrays(splits).checksum()
    assert len({same, train, test}) == 3


def test_fewer_images_than_a_batch_needs_are_an_error(monkeypatch):
    data = Arrays(array_splits([2, 1]), batch_size=8)
    assert len(data.schedule()) == 1
    monkeypatch.setattr(data, "_rank", lambda: (0, 2))
    with pytest.raises(CarltError, match=r"arrays has 3 training images, too few for a batch on each of 2 device\(s\)"):
        data.train_dataloader()


@pytest.mark.parametrize(("cores", "workers"), [(1, 0), (2, 2), (8, 8), (64, 8)])
def test_loaders_have_one_worker_per_core_up_to_eight(cores, workers, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(cores)), raising=False)
    assert loaders.default_num_workers() == workers
    assert Arrays(array_splits([2, 2])).num_workers == workers


FACTS = Facts(images=140, classes=3, smallest=19, largest=101, groups=(1, 1, 1))


@pytest.mark.parametrize("counts", [[101, 20, 19], [101, 19, 20]])
def test_counts_with_the_official_facts_pass_in_any_order(counts):
    FACTS.check(torch.tensor(counts), "the list")


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ([100, 21, 19], "largest: expected 101, found 100; groups: expected (1, 1, 1), found (0, 2, 1)"),
        ([101, 39, 0], "classes: expected 3, found 2; smallest: expected 19, found 0"),
        ([101, 19, 19], "images: expected 140, found 139; groups: expected (1, 1, 1), found (1, 0, 2)"),
    ],
)
def test_an_error_names_every_fact_that_differs(counts, wrong):
    with pytest.raises(CarltError) as error:
        FACTS.check(torch.tensor(counts), "the list")
    assert f"the list is not the official split ({wrong}); " in str(error.value)


def test_the_bars_of_many_classes_are_evenly_spaced():
    bars = overview.profile_bars(array_splits([1, *range(49, 0, -1)])).splitlines()  # the first class is a rare one
    counts = [int(bar.split()[2]) for bar in bars]
    assert len(bars) == overview.BARS
    assert (counts[0], counts[-1], counts[12]) == (49, 1, 25)
    assert bars[0].endswith(" 49 " + "█" * 50)
    assert bars[12].endswith(" 25 " + "█" * 26)


def test_of_many_classes_without_test_images_some_are_named():
    few = Split(ArrayImages(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)), torch.tensor([0]))
    said = array_splits([9, 8, 7, 6, 5, 4, 3, 2], test=few).untested()
    assert said.startswith("7 classes have no test images")
    assert said.endswith("class 5 (4 training images) and 2 more")


def test_a_data_module_can_be_printed():
    """Lightning's text of a data module reads its loaders, which are none that it knows."""
    assert "Arrays" in str(Arrays(array_splits([2, 1])))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ArrayImages(torch.zeros(4, 3, 8, 8)), r"images are torch.float32 \(4, 3, 8, 8\): give torch.uint8"),
        (lambda: ArrayImages(torch.zeros(4, 8, 8, dtype=torch.uint8)), r"give torch.uint8 \(N, C, H, W\)"),
        (lambda: Split(GREY, torch.zeros(3, dtype=torch.int64)), r"torch.int64 \(3,\): 4 images need torch.int64 \(4,"),
        (lambda: Split(GREY, torch.zeros(4)), r"labels are torch.float32 \(4,\)"),
        (lambda: labelled(1, 2), "labels of train are from 1 to 2: with 2 class names they are from 0 to 1"),
        (lambda: labelled(-1, 1), "labels of train are from -1 to 1"),
    ],
)
def test_a_set_of_one_s_own_is_checked_when_it_is_made(make, said):
    with pytest.raises(CarltError, match=said):
        make()


GREY = ArrayImages(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))


def labelled(first, second):
    split = Split(GREY, torch.tensor([first, first, second, second]))
    return Splits(split, None, split, ["a", "b"])
