"""Seeds that depend on where random numbers are used, not on what ran before."""

import hashlib

__all__ = ["derive_seed"]


def derive_seed(*parts: str | int) -> int:
    """Returns a seed in [0, 2^32) that is a fixed function of ``parts``, in every process and on every machine.

    A run seeds each epoch from (seed, task, phase, epoch, rank), so that a run that was killed and resumed draws the
    same numbers as one that was not.
    """
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")
