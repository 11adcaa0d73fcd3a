import torch
from hypothesis import given
from hypothesis import strategies as st

from carlt.functional.seeds import derive_seed

integers = st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=4)


@given(integers)
def test_a_seed_is_one_that_torch_takes(parts: list[int]) -> None:
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63
    torch.Generator().manual_seed(seed)


def test_published_runs_keep_their_draws() -> None:
    assert (derive_seed(0), derive_seed(0, 0), derive_seed(1, 2, 3)) == (
        7795324965117060851,
        985363666577631307,
        6087047714123848686,
    )


def test_nearby_parts_give_seeds_of_their_own() -> None:
    seeds = {derive_seed(seed, epoch, index) for seed in range(10) for epoch in range(10) for index in range(100)}
    assert len(seeds) == 10 * 10 * 100


def test_order_and_number_of_parts_matter() -> None:
    assert len({derive_seed(1, 2), derive_seed(2, 1), derive_seed(1), derive_seed(1, 0), derive_seed(1, 0, 0)}) == 5


def test_half_of_the_bits_flip_with_one_bit_of_a_part() -> None:
    flips = [bin(derive_seed(seed, 5) ^ derive_seed(seed, 4)).count("1") for seed in range(500)]
    assert 29 < sum(flips) / len(flips) < 34  # of 63
