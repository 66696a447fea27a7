"""Colour profiles, made by hand: the smallest ones that mean something else than sRGB."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

ADOBE = np.array([[0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087], [0.14919, 0.06322, 0.74457]])
"""XYZ (D50) of red, green and blue of a wide-gamut space like Adobe RGB, whose gamma is 563/256."""
SRGB = np.array([[0.43607, 0.22249, 0.01392], [0.38515, 0.71687, 0.09708], [0.14307, 0.06061, 0.71410]])
"""The same of sRGB."""
GAMMA = 563 / 256


def wide_gamut() -> bytes:
    """A profile for RGB, with the primaries `ADOBE`."""
    colours = {f"{name}XYZ".encode(): _xyz(row) for name, row in zip("rgb", ADOBE, strict=True)}
    return _profile(b"RGB ", b"XYZ ", colours | {f"{name}TRC".encode(): _gamma(GAMMA) for name in "rgb"})


def grey(gamma: float) -> bytes:
    """A profile for grey."""
    return _profile(b"GRAY", b"XYZ ", {b"kTRC": _gamma(gamma)})


def inks() -> bytes:
    """A profile for CMYK: full cyan alone prints a mid grey, L* 50; no ink is white; all others are black."""
    table = bytes(range(256))
    white, middle, black = (255, 128, 128), (128, 128, 128), (0, 128, 128)
    grid = [{0: white, 8: middle}.get(corner, black) for corner in range(16)]  # the last ink counts fastest
    body = struct.pack(">4sI4B9I", b"mft1", 0, 4, 3, 2, 0, *(int(i % 4 == 0) << 16 for i in range(9)))
    return _profile(b"CMYK", b"Lab ", {b"A2B0": body + 4 * table + bytes(sum(grid, ())) + 3 * table})


def in_wide_gamut(rgb: Sequence[int]) -> tuple[int, ...]:
    """How `wide_gamut` writes a colour of sRGB."""
    value = np.array(rgb) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    there = np.linalg.solve(ADOBE.T, linear @ SRGB)
    return tuple(int(round(255 * v ** (1 / GAMMA))) for v in there)


def _xyz(values: Sequence[float]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(v * 65536) for v in values))


def _gamma(value: float) -> bytes:
    return struct.pack(">4sIIH", b"curv", 0, 1, round(value * 256))


def _profile(space: bytes, connection: bytes, tags: Mapping[bytes, bytes]) -> bytes:
    """Header, table of the tags, and the tags."""
    white = [0.9642, 1.0, 0.8249]
    tags = {b"desc": struct.pack(">4sII1x", b"desc", 0, 1) + bytes(78), b"wtpt": _xyz(white), **tags}
    table, data, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        table += struct.pack(">4sII", name, at + len(data), len(body))
        data += body + bytes(-len(body) % 4)
    size = at + len(data)
    kind = b"prtr" if space == b"CMYK" else b"mntr"
    header = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, kind, space, connection) + bytes(12)
    header += b"acsp" + bytes(28) + _xyz(white)[8:]
    return header.ljust(128, bytes(1)) + table + data
