"""Published test vectors that several tests use, and how digits are compared."""

import numpy as np

# Days of (positives, true positives a, b, false positives a, b).
DAYS = np.array(
    [
        (100, 84, 87, 110, 104),
        (90, 75, 76, 98, 101),
        (120, 104, 105, 130, 121),
        (80, 66, 70, 85, 88),
        (110, 95, 94, 118, 109),
        (95, 79, 84, 101, 95),
        (105, 90, 92, 112, 108),
    ],
    dtype=float,
).T
P, TP_A, TP_B, FP_A, FP_B = DAYS


def digits(value: float | None, text: str) -> None:
    """Assert equality to the digits that are shown, but for the rounding of the last one."""
    assert value is not None, f"no value where {text} is expected"
    mantissa, _, exponent = text.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    assert abs(value - float(text)) <= unit, f"{value!r} is not {text}"
