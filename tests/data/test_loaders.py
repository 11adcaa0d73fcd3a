"""Loaders: resumed equals uninterrupted, workers change nothing, crops are distributed as torchvision's on Pillow."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop, v2
from torchvision.transforms.v2.functional import pil_to_tensor

from carlt.aug import Compose, CropFlip, Cutout, Paste, RandAugment, RandomErasing, Resize, ResizedCropFlip, SimCLR
from carlt.data import ImageFolder, loaders
from carlt.data.batch import Unchanged, Views
from carlt.data.images import ArrayImages, Split
from carlt.data.io.decode import decode
from carlt.data.loaders import eval_loader
from carlt.errors import CarltError
from carlt.samplers import BatchSchedule, Instance


@pytest.fixture(params=["files", "array"])
def data(request, make_folder, tmp_path, loading):
    """Every batch with two further views of each image, and half of them with images to paste from."""
    make_folder(tmp_path, {"a": 30, "b": 10})
    loading |= {"num_workers": 2, "view": ResizedCropFlip(32), "contrast_view": SimCLR(32), "contrast_copies": 2}
    loading["foreground"] = Paste()
    return ImageFolder(root=tmp_path, in_memory=request.param == "array", **loading)


def batches(loader, epoch):
    loader.set_epoch(epoch)
    return [[part.clone() for part in flat(batch)] for batch in loader]


def flat(batch):
    """The tensors of a batch, in order."""
    return [part for field in batch if field is not None for part in (field if isinstance(field, tuple) else [field])]


def same(a, b):
    return all(torch.equal(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(left, right, strict=True))


def test_resumed_in_mid_epoch(data):
    whole = batches(data.train_dataloader(), 3)
    loader = data.train_dataloader()
    loader.set_epoch(3)
    iterator = iter(loader)
    start = [flat(next(iterator)), flat(next(iterator))]
    again = data.train_dataloader()
    again.load_state_dict(loader.state_dict())
    again.set_epoch(3)
    assert same(start + [flat(batch) for batch in again], whole)
    assert not same(batches(again, 4), whole)


def test_a_finished_epoch_that_is_iterated_again_starts_over():
    split = Split(ArrayImages(torch.arange(12, dtype=torch.uint8).view(-1, 1, 1, 1)), torch.arange(12))
    schedule = BatchSchedule(split.targets, Instance(), 4, seed=0)
    loader = loaders.ArrayTrainLoader(split, schedule, Views(Unchanged()), torch.device("cpu"))
    first, again = ([batch.labels.tolist() for batch in loader] for _ in range(2))
    assert len(first) == 3
    assert again == first


def test_what_a_batch_brings(data):
    mixed, foregrounds = [], []
    for epoch in range(12):
        loader = data.train_dataloader()
        loader.set_epoch(epoch)
        for images, labels, contrast, foreground in loader:
            assert contrast.shape == (2, *images.shape)
            assert contrast.dtype == images.dtype == torch.uint8
            assert not torch.equal(contrast[0], contrast[1])
            mixed.append(foreground is not None)
            if foreground is not None:
                assert foreground[0].shape == images.shape
                foregrounds.append(foreground[1])
                assert foreground[1].shape == labels.shape
    assert 0.25 < sum(mixed) / len(mixed) < 0.75  # of 60 batches
    rare = torch.cat(foregrounds).float().mean()  # class 1 has a quarter of the images, and half of the patches
    assert 0.35 < rare < 0.65


def test_there_are_as_many_images_to_paste_from_as_are_shown():
    """Also if some could not be decoded: mixing pairs them one by one."""

    def item(pasted):
        return loaders._LoadedItem(torch.zeros(1, 2, 2), np.int64(pasted), [], pasted, 0)

    batch = loaders._collate([*[item(False)] * 3, item(True), "b.jpg cannot be decoded", item(True)], None).batch
    assert batch.foreground[0].shape == batch.images.shape
    assert batch.foreground[1].tolist() == [1, 1, 1]


def test_all_ranks_mix_the_same_steps(data):
    steps = []
    for rank in range(2):
        data._rank = lambda rank=rank: (rank, 2)
        steps.append([len(other) > 0 for _, other in data.train_dataloader().plan.batches(0, 0)])
    assert steps[0] == steps[1]


def test_an_image_shown_twice_is_seen_twice(data):
    """A sampler that repeats an image within an epoch shows it in as many views."""

    class Same:
        def order(self, targets, epoch, generator):
            return torch.zeros_like(targets)

    data.sampler = Same()
    batch = next(iter(data.train_dataloader()))
    assert len({view.numpy().tobytes() for view in batch.images}) > 4


def test_workers_live_on_and_change_nothing(data):
    loader = data.train_dataloader()
    first, second = batches(loader, 0), batches(loader, 1)
    data.num_workers = 0
    alone = data.train_dataloader()
    assert same(batches(alone, 0) + batches(alone, 1), first + second)
    if hasattr(loader, "_workers"):
        assert loader._workers.loader._iterator is not None  # torch keeps it only where workers persist


def test_views_are_finished_on_the_device(data, monkeypatch):
    """A device without numbers gets whole batches; where it computes, they are those that workers make for a CPU."""
    whole = batches(data.train_dataloader(), 1)
    monkeypatch.setattr(data, "_device", lambda: torch.device("meta"))
    for batch, expected in zip(batches(data.train_dataloader(), 1), whole, strict=True):
        assert {part.device.type for part in batch} == {"meta"}
        assert [part.shape for part in batch] == [part.shape for part in expected]
    monkeypatch.setattr(loaders, "move_data_to_device", lambda batch, device: batch)  # numbers after all
    loader = data.train_dataloader()
    if isinstance(loader, loaders.FileTrainLoader):
        assert same(batches(loader, 1), whole)


def test_workers_decode_and_crop_and_no_more(make_folder, tmp_path, loading, monkeypatch):
    make_folder(tmp_path, {"a": 6, "b": 6})
    view = Compose(ResizedCropFlip(32, jitter=0.4), [RandAugment(), RandomErasing()])
    data = ImageFolder(root=tmp_path, **loading | {"view": view})
    monkeypatch.setattr(data, "_device", lambda: torch.device("meta"))
    monkeypatch.setattr(loaders, "move_data_to_device", lambda batch, device: batch)
    finished, crops = view.finish, []
    monkeypatch.setattr(view, "finish", lambda images, generator: crops.append(images) or finished(images, generator))
    (batch, *_) = data.train_dataloader()
    monkeypatch.setattr(view.view, "finish", None)
    for (seed, index, _), crop in zip(next(iter(data.train_dataloader()._items)), crops[0], strict=True):
        torch.manual_seed(seed)
        assert torch.equal(view.view.crop(data.splits.train.images.load(index)), crop)
    assert not (batch.images == crops[0]).flatten(1).all(1).any()


@pytest.mark.parametrize("in_memory", [False, True])
def test_own_views_and_torchvisions_transforms(make_folder, tmp_path, loading, in_memory):
    """A view in one part, and a transform of single images, give the same batches again."""

    class Plain:
        def __call__(self, images, generator):
            return Resize(32)(images, generator).roll(int(torch.randint(5, (), generator=generator)), 3)

        def image(self, image):
            return Resize(32).image(image).roll(int(torch.randint(5, ())), 2)

    make_folder(tmp_path, {"a": 12, "b": 6})
    for view in (Plain(), Compose(Plain(), [RandomErasing()]), Compose(CropFlip(32), [v2.RandAugment(), Cutout()])):
        data = ImageFolder(root=tmp_path, in_memory=in_memory, **loading | {"view": view})
        first = batches(data.train_dataloader(), 1)
        assert same(batches(data.train_dataloader(), 1), first)
        assert not same(batches(data.train_dataloader(), 2), first)


@pytest.mark.gpu
def test_a_gpu_s_batches_are_a_cpu_s(data, monkeypatch):
    """The same draws: pixels differ by rounding, labels not at all; and a batch of an array waits for nothing."""
    data.views = data.views._replace(view=Compose(ResizedCropFlip(32, jitter=0.4), [RandAugment(), RandomErasing()]))
    on_cpu = batches(data.train_dataloader(), 1)
    monkeypatch.setattr(data, "_device", lambda: torch.device("cuda", 0))
    loader = data.train_dataloader()
    for batch, expected in zip(batches(loader, 1), on_cpu, strict=True):
        for part, other in zip(batch, expected, strict=True):
            assert part.device.type == "cuda"
            difference = (part.cpu().int() - other.int()).abs().float()
            assert difference.mean() < 0.1 if part.ndim > 1 else not difference.any()
    if isinstance(loader, loaders.FileTrainLoader):
        return
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            for _ in loader:
                pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not waits, [str(wait.message) for wait in waits]


def test_evaluation_shows_every_image_once_over_all_ranks(data):
    split = data.splits.train
    shown = []
    for rank in range(3):
        data._rank = lambda rank=rank: (rank, 3)
        shown += [targets for _, targets in data.evaluation_loader(split)]
    assert torch.cat(shown).bincount().tolist() == data.class_counts.tolist()


def test_crop_flip_against_a_loop():
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    out = CropFlip(32)(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (4,) * 4)
    places = set()
    for image, result in zip(padded, out, strict=True):
        found = [
            (row, column, flip)
            for row in range(9)
            for column in range(9)
            for flip in (False, True)
            if torch.equal(image[:, row : row + 32, column : column + 32].flip([2] if flip else []), result)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 40  # every image has draws of its own


def test_crops_are_torchvisions(picture, tmp_path):
    """The same seed gives the crop that ``RandomResizedCrop`` cuts out of a Pillow image, its pixels to rounding."""
    picture(width=500, height=375).save(tmp_path / "photo.jpg")
    photo = decode(tmp_path / "photo.jpg")
    with Image.open(tmp_path / "photo.jpg") as opened:
        opened.load()
    for seed in range(20):
        torch.manual_seed(seed)
        ours = ResizedCropFlip(224, flip=False).image(photo)
        torch.manual_seed(seed)
        theirs = pil_to_tensor(RandomResizedCrop(224)(opened))
        assert (ours.int() - theirs.int()).abs().max() <= 2  # of 255, from rounding


def test_half_are_mirrored(picture):
    photo = pil_to_tensor(picture())
    torch.manual_seed(0)
    view = ResizedCropFlip(64, scale=(1, 1), ratio=(1, 1))
    straight = ResizedCropFlip(64, scale=(1, 1), ratio=(1, 1), flip=False).image(photo)
    mirrored = sum(not torch.equal(view.image(photo), straight) for _ in range(400))
    assert 160 < mirrored < 240


@pytest.mark.parametrize(
    ("images", "size", "world"), [(1025, 512, 2), (10, 4, 3), (7, 1, 2), (512, 512, 2), (9, 100, 4)]
)
def test_all_processes_evaluate_equally_many_batches(images: int, size: int, world: int) -> None:
    split = Split(ArrayImages(torch.arange(images, dtype=torch.uint8).view(-1, 1, 1, 1)), torch.arange(images))
    ranks = [eval_loader(split, Unchanged(), size, 0, torch.device("cpu"), rank, world) for rank in range(world)]
    assert len({len(loader) for loader in ranks}) == 1
    labels = [label for loader in ranks for _, batch in loader for label in batch.tolist()]
    assert sorted(labels) == list(range(images))
    one = eval_loader(split, Unchanged(), size, 0, torch.device("cpu"))
    assert [len(labels) for _, labels in one][:-1] == [size] * (len(one) - 1)


def test_fewer_images_than_processes_cannot_be_shared_out() -> None:
    split = Split(ArrayImages(torch.zeros(3, 3, 8, 8, dtype=torch.uint8)), torch.arange(3))
    with pytest.raises(CarltError, match="3 images cannot be split over 4 devices"):
        eval_loader(split, Unchanged(), 2, 0, torch.device("cpu"), rank=3, world_size=4)
