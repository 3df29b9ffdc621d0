"""float16 to float32, several times faster than numpy's own cast where that has no instruction for it."""

import numpy as np
from numpy.typing import NDArray

_SIGN_AND_MAGNITUDE = np.int32(-0x70002000)
"""The bits of a half that was sign-extended and moved to a float32's mantissa."""
_REBIAS = np.float32(2.0**112)
"""Between the exponents' biases, 127 and 15."""
_BEYOND = 2.0**16
"""Where the moved bits of infinities and nan come to lie; the largest half is 65,504."""


def widen(halves: NDArray[np.float16]) -> NDArray[np.float32]:
    """The same values as float32, in the same shape; exact for every half, subnormal ones too.

    Moves the bits to their places in a float32 and multiplies by the difference of the biases, four passes
    without a branch; infinities and nan, which have no place in that, go through numpy's cast.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_MAGNITUDE
    floats = bits.view(np.float32)
    floats *= _REBIAS
    if floats.size and max(floats.max(), -floats.min()) >= _BEYOND:
        return halves.astype(np.float32)
    return floats
