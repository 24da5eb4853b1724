"""The feathered edge of a mask: the opacity of the new image in each pixel.

The edge lies inside the painted region. A kept pixel is never changed, whatever the width of the edge.
"""

import numpy as np
from numpy.typing import NDArray

Squares = NDArray[np.uint16]


def soften(painted: NDArray[np.bool_], feather: int) -> NDArray[np.float32]:
    """The opacity of the new image, (height, width): 0 where `painted` is false, and rising from there to 1.

    The `feather` pixels (at most 64) next to a kept pixel are mixed, by their Euclidean distance to the nearest kept
    pixel. Where the painted region is too narrow for that, its middle is opaque all the same: what the mask marks must
    change. The edge of the image is not an edge of the region.
    """
    opacity = painted.astype(np.float32)
    if feather and painted.any() and not painted.all():
        inside = _around(painted)
        _soften(opacity[inside], painted[inside], feather)
    return opacity


def _around(painted: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The rows and columns of the painted region and one more on each side, which hold the nearest kept pixel."""
    lines = (np.flatnonzero(painted.any(axis=axis)) for axis in (1, 0))
    rows, columns = (slice(max(0, line[0] - 1), line[-1] + 2) for line in lines)
    return rows, columns


def _soften(opacity: NDArray[np.float32], painted: NDArray[np.bool_], feather: int) -> None:
    """Write the opacity of the feathered edge into `opacity`, which is 0 or 1."""
    depth = _squared_depths(painted, feather + 1)
    room = _largest_within(depth, feather)
    mixed = np.nonzero(painted & (depth < room))
    share = np.sqrt(depth[mixed] / room[mixed]).astype(np.float32)
    # Smoothstep: a linear ramp shows as a line where it begins and where it ends.
    opacity[mixed] = share * share * (3 - 2 * share)


def _squared_depths(painted: NDArray[np.bool_], most: int) -> Squares:
    """The squared distance of each pixel to the nearest unpainted pixel, at most most²; 0 for unpainted pixels.

    Exact: the nearest in the row of the pixel, then the nearest of those over the rows around, by a² + b² = c².
    """
    along = np.where(painted, np.uint8(most), np.uint8(0))
    step = 1
    while step < most:  # 1, 2, 4, … sum to every distance
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
    """The largest of the values at most `reach` rows and columns away.

    The result changes from pixel to pixel by no more than the distances do, so there is no jump where a region narrows.
    """
    largest = values.copy()
    for lines in (largest, largest.T):
        done = 0
        while done < reach:
            step = min(done + 1, reach - done)  # a larger step would leave out values at the edges
            np.maximum(lines[step:], lines[:-step], out=lines[step:])
            np.maximum(lines[:-step], lines[step:], out=lines[:-step])
            done += step
    return largest
