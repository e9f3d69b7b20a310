"""Points of the Sobol sequence as PyTorch draws them, with the direction numbers of Joe and Kuo.

    python tests/reference/sobol.py

writes sobol.json beside it; with `--table` it prints the table of src/sweep/sobol.rs: of each dimension the
coefficients of its primitive polynomial and its first direction numbers.
"""

import json
import pathlib
import sys

import torch

DIMENSIONS = 64
POINTS = 40
BITS = 30  # PyTorch's


def direction_numbers(engine):
    state = engine.sobolstate.tolist()
    return [[row[j] >> (BITS - 1 - j) for j in range(BITS)] for row in state]


def follows(m, degree, a):
    """Whether the numbers are those that the recurrence makes of the first `degree` ones."""
    for k in range(degree, BITS):
        value = m[k - degree] ^ (m[k - degree] << degree)
        for i in range(1, degree):
            if (a >> (degree - 1 - i)) & 1:
                value ^= m[k - i] << i
        if value != m[k]:
            return False
    return True


def polynomial(m):
    for degree in range(1, 12):
        for a in range(1 << (degree - 1)):
            if follows(m, degree, a):
                return degree, a
    raise ValueError(m)


def main():
    engine = torch.quasirandom.SobolEngine(DIMENSIONS, scramble=False)
    if "--table" in sys.argv:
        for m in direction_numbers(engine)[1:]:
            degree, a = polynomial(m)
            print(f"    ({a}, &{m[:degree]}),")
        return
    points = engine.draw(POINTS, dtype=torch.float64).tolist()
    path = pathlib.Path(__file__).with_name("sobol.json")
    path.write_text(json.dumps({"torch": torch.__version__, "points": points}) + "\n")


main()
