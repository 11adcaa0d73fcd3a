"""ImageNet-LT, Places-LT and iNaturalist from made-up lists of official size: facts, variants, layouts, faults."""

import json
import time

import numpy as np
import pytest
import torch

from carlt.data import ImageNetLT, INaturalist2018, PlacesLT
from carlt.data.datasets.listed import ListedLT
from carlt.errors import CarltError


def profile(total, classes, smallest, largest, groups):
    """Counts with exactly these facts: many (> 100), medium (20 to 100) and few (< 20) classes, ``total`` images."""
    many, medium, few = groups
    counts = np.array([101] * many + [20] * medium + [smallest] * few)
    top = np.array([largest] * many + [100] * medium + [19] * few)
    counts[0] = largest
    last = classes - 1  # the smallest class stays as it is
    for c in range(1, last):
        counts[c] += max(0, min(top[c] - counts[c], total - counts.sum()))
    assert counts.sum() == total
    return counts


def write_list(path, counts, prefix="train/class{label:04}/{label:04}_{i}.jpg"):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{prefix.format(label=label, i=i)} {label}\n" for label, count in enumerate(counts) for i in range(count)]
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def inaturalist_lists(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inaturalist")
    prefix = "train_val2018/Plantae/{label}/" + "0" * 24 + "{i:08}.jpg"
    write_list(folder / "iNaturalist18_train.txt", profile(437_513, 8_142, 2, 1_000, (842, 3_701, 3_599)), prefix)
    write_list(folder / "iNaturalist18_val.txt", [3] * 8_142, prefix)
    return folder


def unchecked(cls):
    """``cls`` without the digests of its lists, which made-up lists cannot have."""
    return type(cls.__name__, (cls,), {"sha256": {}})


@pytest.mark.slow
def test_inaturalist_at_full_size(inaturalist_lists, loading):
    began = time.process_time()
    data = unchecked(INaturalist2018)(lists=inaturalist_lists, verify="lists", validation="none", **loading)
    assert data.class_counts.sum() == 437_513
    assert time.process_time() - began < 6  # about 1 s on an idle machine; the benchmark has the limit
    assert data.class_names[8_141] == "Plantae 8141"
    thinned = unchecked(INaturalist2018)(lists=inaturalist_lists, verify="lists", imbalance_factor=100, **loading)
    assert (thinned.class_counts.max(), thinned.class_counts.min()) == (200, 2)
    assert isinstance(data.splits.train.images.paths, np.ndarray)
    assert data.val_split is None


def test_a_missing_line_is_noticed(inaturalist_lists, loading, tmp_path):
    for name in ("iNaturalist18_train.txt", "iNaturalist18_val.txt"):
        lines = (inaturalist_lists / name).read_text().splitlines(keepends=True)
        (tmp_path / name).write_text("".join(lines[1:]))
    kinds = unchecked(INaturalist2018)
    with pytest.raises(CarltError, match="images: expected 437513, found 437512"):
        _ = kinds(lists=tmp_path, verify="lists", **loading).splits
    assert len(kinds(lists=tmp_path, verify="lists", official=False, **loading).splits.train) == 437_512


def test_inaturalist_json_gives_the_same_lists(loading, tmp_path):
    for name, per_class in (("train2018.json", 2), ("val2018.json", 1)):
        images = [
            {"id": 10 * c + i, "file_name": f"train_val2018/Aves/{c}/{i}.jpg"}
            for c in range(3)
            for i in range(per_class)
        ]
        annotations = [{"image_id": image["id"], "category_id": image["id"] // 10} for image in images]
        (tmp_path / name).write_text(json.dumps({"images": images, "annotations": annotations}))
    (tmp_path / "categories.json").write_text(json.dumps([{"id": 0, "name": "Corvus corax"}]))
    data = INaturalist2018(lists=tmp_path, verify="lists", official=False, **loading)
    assert data.class_counts[:4].tolist() == [2, 2, 2, 0]
    assert data.splits.train.images.paths[2] == b"train_val2018/Aves/1/0.jpg"
    assert data.class_names[0] == "Corvus corax"
    with pytest.raises(CarltError, match=r"is not the official split .*images: expected 437513, found 6"):
        _ = INaturalist2018(lists=tmp_path, verify="lists", **loading).splits
    for damaged in ("{", '[{"id": 0}]'):
        (tmp_path / "categories.json").write_text(damaged)
        with pytest.raises(CarltError, match="is not the competition's list of categories"):
            _ = INaturalist2018(lists=tmp_path, verify="lists", official=False, **loading).splits


def coco(name: object, label: object) -> str:
    """A JSON of one image; a label that is missing is left out."""
    entry = {"image_id": 0} | ({} if label is None else {"category_id": label})
    return json.dumps({"images": [{"id": 0, "file_name": name}], "annotations": [entry]})


GOOD = "train_val2018/Aves/1/0.jpg"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", r"not the competition's JSON \(KeyError"),
        ("[" * 100_000, r"not the competition's JSON \(RecursionError"),
        (coco(3, 1), "not the competition's JSON"),
        (coco(GOOD + "\nx", 1), r"a line break in 'train_val2018/Aves/1/0.jpg\\nx'"),
        (coco(GOOD, None), r"not the competition's JSON \(KeyError: 'category_id'"),
        (coco(GOOD, 8142), r"line 1: the label '8142' is no integer from 0 to 8141"),
        (coco(GOOD, 1.5), "the label '1.5' is no integer"),
        (coco("train_val2018/../../other/0.jpg", 1), r"other/0.jpg leaves the data folder"),
        (coco("/other/0.jpg", 1), r"/other/0.jpg leaves the data folder"),
        ('{"images": [], "annotations": []}', "no usable line"),
    ],
)
def test_a_damaged_json_is_one_message(content: str, said: str, loading, tmp_path):
    (tmp_path / "train2018.json").write_text(content)
    with pytest.raises(CarltError, match=said):
        _ = INaturalist2018(lists=tmp_path, verify="lists", official=False, **loading).splits


def test_a_changed_list_is_noticed(loading, tmp_path):
    for name in PlacesLT.files.values():
        write_list(tmp_path / name, [1] * 365)
    with pytest.raises(
        CarltError, match=r"Places_LT_train.txt is not the official file \(sha256: expected 726c.*found"
    ):
        _ = PlacesLT(lists=tmp_path, **loading).splits


@pytest.fixture
def imagenet(tmp_path, make_folder, loading):
    """Three classes in ImageNet-LT's form: ``imagenet(layout, flat_list, **options)``."""
    wnids = ["n00000001", "n00000002", "n00000003"]

    class Three(ImageNetLT):
        classes = 3

    def build(train="train", test="val/{wnid}", flat_list=False, **options):
        lists, root = tmp_path / "lists", tmp_path / "root"
        lists.mkdir(exist_ok=True)
        lines = {"train": [], "val": [], "test": []}
        for label, wnid in enumerate(wnids):
            lines["train"] += [f"train/{wnid}/{i}.jpg {label}" for i in range(3 - label)]
            lines["val"] += [f"train/{wnid}/v{i}.jpg {label}" for i in range(1)]
            lines["test"] += [f"val/{'' if flat_list else wnid + '/'}t{label}{i}.jpg {label}" for i in range(2)]
        for split, rows in lines.items():
            (lists / Three.files[split]).write_text("\n".join(rows) + "\n")
        if train:
            make_folder(root, {f"{train}/{wnid}": 3 - label for label, wnid in enumerate(wnids)})
            for label, wnid in enumerate(wnids):
                image = (root / train / wnid / "0.jpg").read_bytes()
                (root / train / wnid / "v0.jpg").write_bytes(image)
                folder = root / test.format(wnid=wnid)
                folder.mkdir(parents=True, exist_ok=True)
                for i in range(2):
                    (folder / f"t{label}{i}.jpg").write_bytes(image)
        return Three(**({"root": root, "lists": lists, "official": False} | loading | options))

    return build


@pytest.mark.parametrize("train", ["train", "ILSVRC/Data/CLS-LOC/train"])
@pytest.mark.parametrize("test", ["val/{wnid}", "val", "ILSVRC/Data/CLS-LOC/val", "ILSVRC/Data/CLS-LOC/val/{wnid}"])
@pytest.mark.parametrize("flat_list", [False, True])
def test_layouts_are_found(imagenet, train, test, flat_list):
    data = imagenet(train, test, flat_list, verify="full")
    assert data.class_counts.tolist() == [3, 2, 1]
    assert all(split.images.path(index).exists() for split in (data.splits.val, data.splits.test) for index in range(3))
    assert len(next(iter(data.train_dataloader()))[0]) == 6


def test_images_that_are_not_there_at_all(imagenet):
    with pytest.raises(CarltError, match=r"train images not found below .*looked for .*ILSVRC2012_img_train.tar"):
        _ = imagenet(train=None).splits
    assert len(imagenet(train=None, verify="lists").splits.train) == 6


def test_the_layout_is_found_with_the_lists_checked_alone(imagenet):
    train = imagenet("ILSVRC/Data/CLS-LOC/train", "val", verify="lists").splits.train
    assert all(train.images.path(index).exists() for index in range(len(train)))


@pytest.mark.parametrize(
    ("content", "verify", "complaint"),
    [
        (None, "files", "the file is missing"),
        (b"", "full", "the file is empty"),
        (b"no image", "full", "holds no image"),
    ],
)
def test_an_unusable_image_is_named_with_its_line(imagenet, caplog, content, verify, complaint):
    broken = imagenet().root / "train/n00000001/2.jpg"
    broken.unlink() if content is None else broken.write_bytes(content)
    data = imagenet(train=None, verify=verify)
    with pytest.raises(
        CarltError, match=rf"1 of 6 images .*{broken} \(.*ImageNet_LT_train.txt, line 3\): .*{complaint}"
    ):
        _ = data.splits
    data = imagenet(train=None, verify=verify, on_error="skip")
    assert data.class_counts.tolist() == [2, 2, 1]
    assert "left out 1 of 6 images" in caplog.text


def test_a_link_to_nowhere_is_a_missing_file(imagenet):
    broken = imagenet().root / "train/n00000001/2.jpg"
    broken.unlink()
    broken.symlink_to("elsewhere.jpg")
    with pytest.raises(CarltError, match=rf"1 of 6 images .*{broken} .*the file is missing"):
        _ = imagenet(train=None, verify="files").splits


PREFIXES = ["train/{c}/{f} {l}", "data_256/{c[0]}/{nested}/{f} {l}", "data_large/{c[0]}/{nested}/{f} {l}"]


@pytest.mark.parametrize("row", PREFIXES)
@pytest.mark.parametrize("layout", ["train/{c}", "data_256/{c[0]}/{nested}", "data_large/{c[0]}/{nested}"])
def test_places_prefixes(tmp_path, loading, picture, row, layout):
    class Two(PlacesLT):
        classes = 2

    names = ["airfield", "bow_window-indoor"]
    lists = {"train": [], "val": [], "test": []}
    for label, c in enumerate(names):
        nested = c.replace("-", "/")
        folder = tmp_path / layout.format(c=c, nested=nested)
        folder.mkdir(parents=True)
        (tmp_path / "val_256").mkdir(exist_ok=True)
        for split, f in (("train", "1.jpg"), ("val", "2.jpg")):
            picture().save(folder / f)
            lists[split].append(row.format(c=c, nested=nested, f=f, l=label))
        picture().save(tmp_path / "val_256" / f"{label}.jpg")
        lists["test"].append(f"val/{c}/{label}.jpg {label}")
    for split, rows in lists.items():
        (tmp_path / Two.files[split]).write_text("\n".join(rows) + "\n")
    data = Two(root=tmp_path, lists=tmp_path, official=False, **loading)
    assert data.class_names == names
    assert [data.splits.train.images.load(i).shape[0] for i in range(2)] == [3, 3]


@pytest.mark.parametrize("listed", ["train_val2018/", "data/inat/train_val2018/", "inat2018/", ""])
@pytest.mark.parametrize("stored", ["train_val2018/", ""])
def test_inaturalist_s_prefixes(listed, stored, loading, picture, tmp_path):
    """Lists of others have another folder in front, or none; images may lie without ``train_val2018/``."""

    class Two(INaturalist2018):
        classes = 2

    for split in ("train", "test"):
        rows = []
        for label in range(2):
            name = f"Aves/{label}/{split}.jpg"
            (tmp_path / stored / name).parent.mkdir(parents=True, exist_ok=True)
            picture(label).save(tmp_path / stored / name)
            rows.append(f"{listed}{name} {label}\n")
        (tmp_path / Two.files[split]).write_text("".join(rows))
    data = Two(root=tmp_path, lists=tmp_path, official=False, **loading)
    assert data.class_names == ["Aves 0", "Aves 1"]
    for split, name in ((data.splits.train, "train"), (data.splits.test, "test")):
        paths = [split.images.path(i) for i in range(2)]
        assert paths == [tmp_path / stored / f"Aves/{label}/{name}.jpg" for label in range(2)]


def test_lists_are_fetched_into_their_folder(loading, tmp_path):
    downloads = ImageNetLT(root=tmp_path / "images", lists=tmp_path / "lists", **loading).downloads()
    assert [each.target for each in downloads] == [tmp_path / "lists" / name for name in ImageNetLT.files.values()]
    assert [each.sha256 for each in downloads] == list(ImageNetLT.sha256.values())
    assert {each.url.rpartition("/")[0].rpartition("/")[2] for each in downloads} == {"ImageNet_LT"}


def test_two_classes_of_one_folder(imagenet):
    data = imagenet()
    (data.lists / data.files["train"]).write_text("train/n00000001/0.jpg 0\ntrain/n00000001/1.jpg 2\n")
    with pytest.raises(CarltError, match=r"classes 0 and 2 of .* have one folder, train/n00000001"):
        _ = data.splits


def test_the_training_list_can_be_thinned(imagenet):
    whole, thinned = imagenet(), imagenet(train=None, imbalance_factor=2, subset="first")
    assert (whole.class_counts.tolist(), thinned.class_counts.tolist()) == ([3, 2, 1], [2, 1, 1])
    assert [thinned.splits.train.images.path(i).name for i in range(4)] == ["0.jpg", "1.jpg", "0.jpg", "0.jpg"]
    assert thinned.class_names == whole.class_names
    for split in ("val", "test"):
        assert len(getattr(thinned.splits, split)) == len(getattr(whole.splits, split))
    assert thinned.checksum() != whole.checksum()


def test_official_sets_declare_all_facts():
    for cls in ListedLT.__subclasses__():
        if cls.__module__.startswith("carlt."):
            assert set(cls.files) == set(cls.facts) == set(cls.layouts)
            assert cls.facts["train"].groups is not None
            assert sum(cls.facts["train"].groups) == cls.classes


def test_targets_are_one_tensor(imagenet):
    assert imagenet().splits.train.targets.dtype == torch.int64


def test_what_the_json_holds_is_not_fetched(loading, tmp_path):
    data = INaturalist2018(root=tmp_path, lists=tmp_path, **loading)
    assert len(data.downloads()) == 2
    (tmp_path / "train2018.json").touch()
    assert [each.target.name for each in data.downloads()] == ["iNaturalist18_val.txt"]
