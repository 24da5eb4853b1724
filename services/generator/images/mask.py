"""The soft border of a mask: how much of what is painted shows, pixel by pixel, from the border into the painted part.

All of the border lies inside the painted part. Whatever its width, a pixel that is kept stays as it is.
"""

import numpy as np
from numpy.typing import NDArray

Squares = NDArray[np.uint16]


def soften(painted: NDArray[np.bool_], feather: int) -> NDArray[np.float32]:
    """The opacity, (height, width), of what is painted: 0 where `painted` is false, and from there smoothly up to 1.

    The `feather` (0 to 64) pixels next to a kept one are mixed; how far in a pixel lies is its exact distance to the
    nearest kept one. Where the part is too narrow for that, its middle is opaque all the same: what somebody marked
    shall change, be it only a scratch. The edge of the image is no border.
    """
    opacity = painted.astype(np.float32)
    if feather and painted.any() and not painted.all():
        inside = _around(painted)
        _soften(opacity[inside], painted[inside], feather)
    return opacity


def _around(painted: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns of all that is painted and one more on each side: the nearest kept pixel is among them."""
    lines = (np.flatnonzero(painted.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, line[0] - 1), line[-1] + 2) for line in lines)
    return rows, columns


def _soften(opacity: NDArray[np.float32], painted: NDArray[np.bool_], feather: int) -> None:
    """Write the opacity of the soft border into `opacity`, which is 0 or 1."""
    depth = _squared_depths(painted, feather + 1)
    room = _largest_within(depth, feather)
    mixed = np.nonzero(painted & (depth < room))
    share = np.sqrt(depth[mixed] / room[mixed]).astype(np.float32)
    # Level at both ends: a straight ramp shows as a line where it begins and where it ends.
    opacity[mixed] = share * share * (3 - 2 * share)


def _squared_depths(painted: NDArray[np.bool_], most: int) -> Squares:
    """The square of each pixel's distance to the nearest that is not painted, at most most²; 0 for those themselves.

    First the nearest in its row, then of those the nearest among the rows around, by a² + b² = c²: exact.
    """
    along = np.where(painted, np.uint8(most), np.uint8(0))
    step = 1
    while step < most:  # 1, 2, 4, … add up to every distance
        left, right = along[:, :-step] + np.uint8(step), along[:, step:] + np.uint8(step)
        np.minimum(along[:, step:], left, out=along[:, step:])
        np.minimum(along[:, :-step], right, out=along[:, :-step])
        step *= 2
    squares = np.square(along, dtype=np.uint16)
    nearest, across = squares.copy(), np.empty_like(squares)
    for rows in range(1, most):
        np.add(squares, np.uint16(rows**2), out=across)
        np.minimum(nearest[rows:], across[:-rows], out=nearest[rows:])
        np.minimum(nearest[:-rows], across[rows:], out=nearest[:-rows])
    return nearest


def _largest_within(values: Squares, reach: int) -> Squares:
    """The largest of the values that are at most `reach` rows and columns away.

    Of distances, it changes from pixel to pixel by no more than they do: where a part grows narrow, nothing jumps.
    """
    largest = values.copy()
    for lines in (largest, largest.T):
        done = 0
        while done < reach:
            step = min(done + 1, reach - done)  # further would leave out what lies between, at the edges
            np.maximum(lines[step:], lines[:-step], out=lines[step:])
            np.maximum(lines[:-step], lines[step:], out=lines[:-step])
            done += step
    return largest
