"""What every view promises, in both of its forms."""

from typing import Any

import torch
from torch import Tensor

from carlt.testing.part import Check, Part, require, run

SIDE = 8


def check_view(view: Any, /, **options: Any) -> None:
    """Check a view: uint8 images to uint8 images, a whole batch or one picture.

    A transform of one picture, such as those of ``torchvision.transforms.v2``, is no view: give it as
    ``check_view(Compose, view=Resize(8), transforms=[MyTransform()])``.

    Args:
        view: the class.
        options: values for its constructor; ``image_size`` is filled in.

    Raises:
        AssertionError: names the first promise that it breaks.
    """
    run(CHECKS, Part(view, options))


def build(part: Part) -> Any:
    """The view for images of ``SIDE`` pixels."""
    return part.build(image_size=SIDE)


def generator(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def images() -> Tensor:
    """uint8 (6, 3, 12, 12), the same in each call."""
    return torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=generator(0))


def bytes_in_and_out_and_the_input_stays(part: Part) -> None:
    """uint8 images become uint8 images of ``image_size`` in both forms, and the input does not change."""
    view, before = build(part), images()
    batch_in, single_in = images(), images()[0]
    batch = view(batch_in, generator(0))
    torch.manual_seed(0)
    single = view.image(single_in)
    require(torch.equal(batch_in, before) and torch.equal(single_in, before[0]), "the input is changed")
    for name, found, shape in (("a batch", batch, (6, 3, SIDE, SIDE)), ("one picture", single, (3, SIDE, SIDE))):
        require(found.dtype == torch.uint8, f"{name} becomes {found.dtype}")
        require(found.shape == shape, f"{name} becomes {tuple(found.shape)}, not {shape}")


def a_batch_is_a_function_of_the_generator_alone(part: Part) -> None:
    """A batch's draws come from the given generator alone, so that a resumed run sees the same images."""
    view = build(part)
    torch.manual_seed(1)
    first = view(images(), generator(0))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    require(torch.equal(view(images(), generator(0)), first), "the same generator gives other images")
    require(torch.equal(torch.get_rng_state(), before), "it takes draws from torch's global generator too")


def one_picture_is_a_function_of_the_global_generator(part: Part) -> None:
    """One picture's draws come from torch's global generator."""
    view = build(part)
    torch.manual_seed(1)
    first = view.image(images()[0])
    torch.manual_seed(1)
    require(torch.equal(view.image(images()[0]), first), "the same seed gives another image")


def random_views_draw_for_each_image(part: Part) -> None:
    """A view that draws at all draws for each image of a batch by itself."""
    view, equal = build(part), images()[:1].repeat(32, 1, 1, 1)
    seeds = {tuple(view(equal[:1], generator(seed)).flatten().tolist()) for seed in range(16)}
    within = {tuple(image.flatten().tolist()) for image in view(equal, generator(0))}
    require(len(seeds) == 1 or len(within) > 1, "all images of a batch have the same draws")


CHECKS: tuple[Check, ...] = (
    bytes_in_and_out_and_the_input_stays,
    a_batch_is_a_function_of_the_generator_alone,
    one_picture_is_a_function_of_the_global_generator,
    random_views_draw_for_each_image,
)
