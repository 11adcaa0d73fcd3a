"""One integer seed from many: every random draw is a function of (seed, purpose, time), so a resumed run repeats it."""

MASK = (1 << 64) - 1


def derive_seed(*parts: int) -> int:
    """Mix integers into one seed in [0, 2^63), SplitMix64's finaliser after each part; order matters."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & MASK)) * 0xBF58476D1CE4E5B9 & MASK
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & MASK
        state ^= state >> 31
    return state >> 1
