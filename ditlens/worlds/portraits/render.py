"""Portraits drawn with signed distance functions: batched, differentiable, any resolution.

`render` maps `Attributes` to images. Coordinates run to the right and down; the face is centred at the
origin and about 0.8 wide, and the image shows about [-0.85, 0.85] x [-0.8, 0.9] of the plane. Every shape
is a signed distance (negative inside) turned into a soft mask one pixel wide, so that edges are anti-aliased
at every resolution and the image has a gradient with respect to every continuous attribute.

Parts are painted back to front; one function draws one part, with the geometry of a portrait (`Face`)
worked out once and shared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ditlens.worlds.portraits.attributes import NAMES, Attributes, attribute, take

Tensor = torch.Tensor
RGB = tuple[float, float, float]

SKIN: tuple[RGB, ...] = (
    (1.00, 0.89, 0.81), (0.96, 0.78, 0.66), (0.83, 0.60, 0.43), (0.60, 0.39, 0.26), (0.36, 0.22, 0.15),
)  # fmt: skip
HAIR: dict[str, RGB] = {
    "black": (0.13, 0.12, 0.16), "brown": (0.42, 0.25, 0.14), "blond": (0.94, 0.77, 0.37),
    "red": (0.77, 0.27, 0.10), "grey": (0.69, 0.70, 0.74), "pink": (0.95, 0.47, 0.69),
}  # fmt: skip
SHIRT: dict[str, RGB] = {
    "red": (0.82, 0.20, 0.22), "blue": (0.20, 0.38, 0.74), "green": (0.18, 0.56, 0.36),
    "yellow": (0.96, 0.77, 0.22), "purple": (0.50, 0.28, 0.66), "white": (0.95, 0.95, 0.96),
}  # fmt: skip
BACKGROUND: dict[str, RGB] = {
    "blue": (0.55, 0.77, 0.95), "green": (0.62, 0.85, 0.64), "pink": (0.98, 0.75, 0.82),
    "yellow": (0.99, 0.89, 0.57), "grey": (0.76, 0.77, 0.80), "orange": (0.98, 0.70, 0.45),
}  # fmt: skip
WHITE, INK, GOLD = (1.0, 1.0, 1.0), (0.10, 0.09, 0.12), (0.95, 0.75, 0.25)

SCALE, SHIFT = 0.85, 0.055
"""The image's half width in canvas units, and how far its centre lies below the face's centre."""

CHUNK_PIXELS = 16 * 64 * 64
"""Pixels drawn at once: keeps the data of one chunk in the processor's cache."""


# --- small tools -----------------------------------------------------------------------------------


def _rgb(color: RGB, like: Tensor) -> Tensor:
    """A colour as (1, 3, 1, 1)."""
    return torch.tensor(color, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def _pick(table: dict[str, RGB], index: Tensor, like: Tensor) -> Tensor:
    """One colour per portrait, (batch, 3, 1, 1)."""
    colors = torch.tensor(list(table.values()), dtype=like.dtype, device=like.device)
    return colors[index].view(-1, 3, 1, 1)


def _ramp(value: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """0 below `low`, 1 above `high`, straight in between."""
    return ((value - low) / (high - low)).clamp(0, 1)


def _bump(x: Tensor, width: float) -> Tensor:
    """A soft hill, 1 at 0 and nearly 0 beyond two widths."""
    return torch.exp(-(x / width).square())


def _segment(x: Tensor, y: Tensor, ax: Tensor | float, ay: Tensor | float, bx: Tensor | float,
             by: Tensor | float) -> Tensor:  # fmt: skip
    """Distance to the segment from (ax, ay) to (bx, by)."""
    dx, dy = bx - ax, by - ay
    along = ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy + 1e-6)
    along = along.clamp(0, 1)
    return ((x - ax - along * dx).square() + (y - ay - along * dy).square() + 1e-9).sqrt()


def _ellipse(x: Tensor, y: Tensor, rx: Tensor | float, ry: Tensor | float) -> Tensor:
    """Signed distance (first order) to an ellipse at the origin."""
    k = ((x / rx).square() + (y / ry).square() + 1e-6).sqrt()
    slope = ((x / (rx * rx)).square() + (y / (ry * ry)).square() + 1e-6).sqrt()
    return k * (k - 1) / slope


def _box(x: Tensor, y: Tensor, hx: Tensor | float, hy: Tensor | float, radius: float) -> Tensor:
    """Signed distance to a rounded box at the origin."""
    qx, qy = x.abs() - hx + radius, y.abs() - hy + radius
    outside = (qx.clamp(min=0).square() + qy.clamp(min=0).square() + 1e-9).sqrt()
    return outside + torch.maximum(qx, qy).clamp(max=0) - radius


# --- the canvas and the shared geometry ------------------------------------------------------------


@dataclass
class Canvas:
    """An image being painted.

    Attributes:
        rgb: (batch, 3, height, width), values in [0, 1].
        pixel: Size of a pixel in canvas units: the width of soft edges.
    """

    rgb: Tensor
    pixel: float

    def mask(self, distance: Tensor, soft: float = 1.0) -> Tensor:
        """Coverage of a shape: 1 inside, 0 outside, a ramp of `soft` pixels across its edge."""
        return (0.5 - distance / (self.pixel * soft)).clamp(0, 1)

    def paint(self, mask: Tensor, color: Tensor | RGB) -> None:
        if isinstance(color, tuple):
            color = _rgb(color, self.rgb)
        self.rgb = torch.lerp(self.rgb, color, mask)

    def shade(self, factor: Tensor) -> None:
        """Multiply the image: below 1 darkens, above 1 lightens."""
        self.rgb = (self.rgb * factor).clamp(0, 1)


@dataclass
class Face:
    """Geometry shared by the parts of a portrait; all tensors broadcast to (batch, 1, height, width)."""

    x: Tensor  # coordinates of the head, turned by the head's tilt
    y: Tensor
    flat_x: Tensor  # coordinates of the image
    flat_y: Tensor
    width: Tensor  # half width of the face
    distance: Tensor  # signed distance to the face
    skin: Tensor  # (batch, 3, 1, 1)
    hair: Tensor
    eye: tuple[Tensor, float]  # centre of the right-hand eye; the other is mirrored
    value: Attributes  # each (batch, 1, 1, 1)

    def is_(self, name: str, value: str) -> Tensor:
        """1.0 where a categorical attribute has this value, as (batch, 1, 1, 1)."""
        index = attribute(name).level_of(value)
        return (self.value[name] == index).to(self.x.dtype)


def _measure(attributes: Attributes, size: int, device: torch.device) -> Face:
    value = {name: attributes[name].to(device).view(-1, 1, 1, 1) for name in NAMES}
    axis = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) / size * 2 - 1
    flat_x, flat_y = axis.view(1, 1, 1, size) * SCALE, axis.view(1, 1, size, 1) * SCALE + SHIFT

    angle = value["head_tilt"] * 0.24
    cos, sin, pivot = angle.cos(), angle.sin(), 0.55
    x = cos * flat_x + sin * (flat_y - pivot)
    y = -sin * flat_x + cos * (flat_y - pivot) + pivot

    width = 0.385 + 0.065 * value["face_width"]
    # An egg: an ellipse whose half width narrows from the cheekbones down to the chin.
    jaw = 1 - 0.20 * _ramp(y, 0.02, 0.60).square() - 0.05 * _ramp(-y, 0.2, 0.6)
    distance = _ellipse(x / jaw, y - 0.03, width, torch.full_like(width, 0.52))

    tones = torch.tensor(SKIN, dtype=axis.dtype, device=device)
    place = value["skin_tone"].view(-1, 1).clamp(0, 1) * (len(SKIN) - 1)
    weights = (1 - (place - torch.arange(len(SKIN), device=device)).abs()).clamp(min=0)
    skin = (weights @ tones).view(-1, 3, 1, 1)
    hair = _pick(HAIR, value["hair_color"].view(-1), flat_x)
    eye = (0.165 + 0.025 * value["face_width"], -0.035)
    return Face(x, y, flat_x, flat_y, width, distance, skin, hair, eye, value)


# --- parts, back to front --------------------------------------------------------------------------


def _background(c: Canvas, f: Face) -> None:
    color = _pick(BACKGROUND, f.value["background"].view(-1), f.flat_x)
    c.rgb = color.expand(-1, -1, f.x.shape[-2], f.x.shape[-1])
    halo = _bump((f.flat_x.square() + (f.flat_y + 0.15).square()).sqrt(), 0.95)
    c.paint(0.42 * halo, WHITE)
    c.shade(1.0 - 0.16 * _ramp((f.flat_x.square() + f.flat_y.square()).sqrt(), 0.75, 1.5))


def _wave(f: Face) -> Tensor:
    """Sideways displacement of the hair's outline by style: none, waves, or curls."""
    wavy = f.is_("hair_style", "wavy") * 0.045 * torch.sin(f.y * 15 + 1.0)
    curls = torch.sin(f.y * 24) * torch.cos(f.x * 20 + 0.6)
    return wavy + f.is_("hair_style", "curly") * 0.050 * curls


def _strands(f: Face) -> Tensor:
    """Brightness of hair, about 1: strands by style plus a glossy band around the crown."""
    straight = torch.sin(f.x * 62 + f.y * 7) * f.is_("hair_style", "straight")
    wavy = torch.sin(f.x * 40 + 2.6 * torch.sin(f.y * 15 + 1.0)) * f.is_("hair_style", "wavy")
    curly = 1.7 * torch.sin(f.x * 34) * torch.sin(f.y * 34 + 2 * torch.sin(f.x * 17))
    texture = straight + wavy + curly * f.is_("hair_style", "curly")
    gloss = _bump((f.x.square() + (f.y + 0.02).square()).sqrt() - 0.50, 0.055)
    return 1 + 0.10 * texture + 0.28 * gloss * _ramp(-f.y, 0.0, 0.5)


def _hair_volume(f: Face) -> Tensor:
    curly, wavy = f.is_("hair_style", "curly"), f.is_("hair_style", "wavy")
    return 0.035 + 0.055 * _ramp(f.value["hair_length"], 0.0, 0.5) + 0.055 * curly + 0.02 * wavy


def _back_hair(c: Canvas, f: Face) -> Tensor:
    """Hair that falls behind the neck; its lower end follows the hair's length."""
    length = f.value["hair_length"]
    x = f.x + _wave(f)
    half = f.width + _hair_volume(f) + 0.04 * length
    bottom = -0.06 + 0.98 * length
    # A column with a round top (the skull) and rounded lower corners.
    skull = _ellipse(x, f.y + 0.05, half, 0.53 + _hair_volume(f))
    center = (bottom - 0.1) / 2
    column = _box(x, f.y - center, half * (1.0 - 0.05 * _ramp(f.y, 0.3, 0.9)), (bottom + 0.1) / 2, 0.10)
    below = torch.maximum(skull, f.y - bottom.clamp(max=0.25))
    distance = torch.minimum(below, torch.where(bottom > 0.0, column, torch.ones_like(column)))
    c.paint(c.mask(distance), (f.hair * 0.80 * _strands(f)).clamp(0, 1))
    return distance


def _body(c: Canvas, f: Face) -> None:
    x, y = f.flat_x, f.flat_y
    shirt = _pick(SHIRT, f.value["shirt"].view(-1), x)
    shoulders = _ellipse(x, y - 1.16, 0.86, 0.56)
    light = 1.0 - 0.30 * _ramp(x.abs(), 0.25, 0.95) + 0.06 * _bump(x + 0.35, 0.25)
    # The neck moves a little with the head, so that a tilted head still sits on it.
    neck_x = x + 0.05 * f.value["head_tilt"] * _ramp(-y, -0.8, -0.3)
    neck = _box(neck_x, y - 0.56, 0.155 + 0.012 * f.value["face_width"], 0.32, 0.06)
    c.paint(c.mask(shoulders), (shirt * light).clamp(0, 1))
    c.paint(c.mask((shoulders + 0.012).abs() - 0.010) * 0.35, shirt * 0.6)
    collar = _ellipse(x, y - 0.64, 0.235, 0.185)
    c.paint(c.mask(torch.maximum(collar - 0.045, shoulders)), (shirt * 0.76).clamp(0, 1))
    shadow = 1.0 - 0.33 * _bump(f.y - 0.50, 0.17)
    c.paint(c.mask(torch.maximum(collar, 0.62 - y)), (f.skin * 0.97).clamp(0, 1))
    c.paint(c.mask(neck), (f.skin * 0.95 * shadow).clamp(0, 1))
    c.paint(c.mask(torch.maximum(collar.abs() - 0.006, shoulders)) * 0.5, shirt * 0.5)


def _ears(c: Canvas, f: Face) -> None:
    ear = _ellipse(f.x.abs() - f.width - 0.012, f.y - 0.03, 0.062, 0.105)
    c.paint(c.mask(ear - 0.010), (f.skin * 0.60).clamp(0, 1))
    c.paint(c.mask(ear), (f.skin * 0.93).clamp(0, 1))
    inner = _ellipse(f.x.abs() - f.width - 0.022, f.y - 0.03, 0.030, 0.060)
    c.paint(c.mask(inner) * 0.6, (f.skin * 0.74).clamp(0, 1))


def _skin(c: Canvas, f: Face) -> None:
    c.paint(c.mask(f.distance - 0.014), (f.skin * 0.58).clamp(0, 1))  # outline
    light = 1.045 - 0.10 * f.x / 0.4 - 0.05 * f.y / 0.5
    rim = 0.16 * _ramp(f.distance, -0.13, 0.0)
    c.paint(c.mask(f.distance), (f.skin * (light - rim)).clamp(0, 1))
    youth = 1 - f.value["age"]
    cheek = _bump((f.x.abs() - 0.235).square().add((f.y - 0.155).square()).sqrt(), 0.105)
    blush = f.skin * _rgb((1.03, 0.70, 0.67), f.x)
    c.paint(cheek * (0.14 + 0.62 * youth) * c.mask(f.distance), blush.clamp(0, 1))


def _wrinkles(c: Canvas, f: Face) -> None:
    age = f.value["age"]
    x, y = f.x.abs(), f.y
    lines = c.mask(((x - 0.185).square() + (y - 0.055).square() + 1e-6).sqrt().sub(0.105).abs() - 0.008)
    bags = lines * _ramp(y, 0.10, 0.13) * c.mask(x - 0.30) * c.mask(0.08 - x)
    fold_x = 0.135 + 0.75 * (y - 0.13) * (1 - 0.9 * (y - 0.13))
    folds = c.mask((x - fold_x).abs() * 0.8 - 0.0105) * _ramp(y, 0.11, 0.16) * _ramp(-y, -0.36, -0.30)
    brow1 = c.mask((y + 0.235 - 0.10 * x.square() * 4).abs() - 0.0085) * c.mask(x - 0.20)
    brow2 = c.mask((y + 0.300 - 0.10 * x.square() * 4).abs() - 0.0085) * c.mask(x - 0.16)
    crow = torch.minimum(_segment(x, y, 0.300, -0.03, 0.345, -0.06), _segment(x, y, 0.300, 0.0, 0.35, 0.015))
    crows = c.mask(crow - 0.007)
    mask = torch.maximum(torch.maximum(bags, folds), torch.maximum(torch.maximum(brow1, brow2), crows))
    c.paint(mask * (0.80 * age) * c.mask(f.distance), (f.skin * 0.52).clamp(0, 1))


def _beard(c: Canvas, f: Face) -> None:
    length = f.value["beard"]
    stubble, grown = _ramp(length, 0.03, 0.12), _ramp(length, 0.15, 0.40)
    color = (f.hair * 0.82 * (1 + 0.09 * torch.sin(f.x * 60) * torch.sin(f.y * 38 + f.x * 9))).clamp(0, 1)
    # From the sideburns down to the upper lip, and below the chin by its length.
    top = 0.205 - 0.24 * _ramp(f.x.abs() / f.width, 0.62, 1.0).square()
    long = _ellipse(f.x, f.y - 0.30, f.width * (0.96 - 0.16 * length), 0.24 + 0.40 * length)
    chin = torch.minimum(f.distance + 0.004, torch.where(length > 0.02, long, torch.ones_like(long)))
    body = torch.maximum(torch.where(f.y > 0.30, chin, f.distance + 0.004), top - f.y)
    soft = c.mask(body, 2.0)
    c.paint(soft * (0.45 * stubble + 0.55 * grown), color)


def _nose(c: Canvas, f: Face) -> None:
    bridge = _bump(f.x - 0.030, 0.030) * _ramp(f.y, -0.10, 0.10) * _ramp(-f.y, -0.19, -0.13)
    c.paint(0.30 * bridge, (f.skin * 0.70).clamp(0, 1))
    tip = _ellipse(f.x, f.y - 0.145, 0.062, 0.046)
    under = torch.maximum(tip.abs() - 0.011, 0.148 - f.y)
    c.paint(c.mask(under) * 0.85, (f.skin * 0.55).clamp(0, 1))
    c.paint(0.50 * _bump((f.x + 0.014).square().add((f.y - 0.120).square()).sqrt(), 0.026), WHITE)


def _mouth(c: Canvas, f: Face) -> None:
    smile, opened = f.value["smile"], f.value["mouth_open"]
    half = 0.150 + 0.035 * smile.abs() - 0.015 * opened
    u = f.x / half
    curve = 0.300 + 0.115 * smile * (0.45 - u.square())
    slope = (1 + (0.23 * smile * u / half).square()).sqrt()
    gap = 0.150 * opened * (1 - u.square()).clamp(min=0)
    upper, lower = curve - 0.30 * gap, curve + 0.70 * gap
    ends = f.x.abs() - half
    inside = torch.maximum(torch.maximum(upper - f.y, f.y - lower) / slope, ends)
    lip_color = (f.skin * _rgb((0.86, 0.50, 0.48), f.x)).clamp(0, 1)
    fullness = 0.024 * (1 - 0.55 * u.square()).clamp(min=0.1)
    lips = torch.maximum(torch.maximum(upper - f.y, f.y - lower) / slope - fullness, ends - 0.012)
    c.paint(c.mask(lips), lip_color)
    c.paint(c.mask(inside), (0.30, 0.07, 0.09))
    tongue = _ellipse(f.x, f.y - 0.300 - 0.135 * opened + 0.02 * smile, half * 0.55, 0.055)
    c.paint(c.mask(torch.maximum(inside + 0.004, tongue)), (0.84, 0.36, 0.38))
    teeth = torch.maximum(inside + 0.004, f.y - upper - 0.040)
    c.paint(c.mask(teeth) * _ramp(opened, 0.05, 0.25), (0.98, 0.97, 0.94))
    line = torch.maximum(((f.y - curve).abs() / slope) - 0.009, ends)
    c.paint(c.mask(line) * (1 - _ramp(opened, 0.03, 0.15)), (f.skin * 0.36).clamp(0, 1))


def _eyes(c: Canvas, f: Face) -> None:
    eye_x, eye_y = f.eye
    opening = 0.022 + 0.066 * f.value["eye_open"]
    side = f.x.sign()
    x, y = f.x.abs() - eye_x, f.y - eye_y  # mirrored: both eyes at once
    almond = _ellipse(x, y, 0.100, opening)
    c.paint(c.mask(almond - 0.012) * 0.9, (f.skin * 0.62).clamp(0, 1))
    c.paint(c.mask(almond), (0.99, 0.985, 0.97))
    gaze = 0.048 * f.value["gaze"] * side  # in the mirrored frame a glance is mirrored back
    iris = ((x - gaze).square() + y.square() + 1e-9).sqrt()
    inside = c.mask(almond)
    c.paint(inside * c.mask(iris - 0.056), (0.20, 0.33, 0.30))
    c.paint(inside * c.mask((iris - 0.050).abs() - 0.006), (0.10, 0.18, 0.17))
    c.paint(inside * c.mask(iris - 0.027), INK)
    spark = ((x - gaze + 0.018 * side).square() + (y + 0.020).square() + 1e-9).sqrt()
    c.paint(inside * c.mask(spark - 0.014), WHITE)
    c.paint(inside * 0.30 * _ramp(-y, 0.15 * 0.066, 0.066), INK)  # the lid's shadow
    lid = torch.maximum(almond.abs() - 0.014, y + 0.20 * opening)
    c.paint(c.mask(lid), (0.15, 0.10, 0.10))


def _brows(c: Canvas, f: Face) -> None:
    eye_x, eye_y = f.eye
    tilt, lift = f.value["brow_tilt"], 0.030 * (f.value["eye_open"] - 0.5)
    x, y = f.x.abs(), f.y
    height = eye_y - 0.125 - lift
    inner, outer = height + 0.060 * tilt, height - 0.052 * tilt
    bow = -0.020 * (1 - ((x - eye_x) / 0.12).square()).clamp(min=0)
    distance = _segment(x, y - bow, eye_x - 0.115, inner, eye_x + 0.105, outer)
    taper = 0.026 - 0.012 * _ramp(x, 0.16, 0.29)
    brow_color = (f.hair * 0.58 + 0.02).clamp(0, 1)
    c.paint(c.mask(distance - taper), brow_color)


def _front_hair(c: Canvas, f: Face) -> None:
    length = f.value["hair_length"]
    x = f.x + 0.6 * _wave(f)
    volume = _hair_volume(f)
    skull = _ellipse(x, f.y + 0.05, f.width + volume, 0.53 + volume)
    # The hairline: high at the parting, down to the temples; longer hair sweeps lower over the forehead.
    part = f.x - 0.09
    temple = 0.34 * _ramp(f.x.abs() / f.width, 0.70, 1.02).square()
    sweep = 0.085 * _ramp(length, 0.15, 0.7) * _ramp(part.abs(), 0.0, 0.33)
    ripple = 0.030 * f.is_("hair_style", "curly") * torch.sin(f.x * 30)
    ripple = ripple + 0.018 * f.is_("hair_style", "wavy") * torch.sin(f.x * 18)
    hairline = -0.350 + 0.02 * _bump(part, 0.05) * -1 + temple + sweep + ripple
    distance = torch.maximum(skull, (f.y - hairline) * 0.85)
    c.paint(c.mask(distance - 0.014), (f.hair * 0.52).clamp(0, 1))
    c.paint(c.mask(distance), (f.hair * _strands(f)).clamp(0, 1))
    # Locks that fall in front of the ears and shoulders when the hair is long.
    reach = _ramp(length, 0.40, 0.60)
    bottom = -0.06 + 0.98 * length
    lock = (f.x + _wave(f)).abs() - (f.width + 0.035)
    tip = 1 - _ramp(f.y, bottom - 0.30, bottom + 0.02).square()
    width = 0.105 * reach * (0.75 + 0.25 * _ramp(f.y, -0.1, 0.3)) * tip
    locks = torch.maximum(lock.abs() - width, torch.maximum(-0.10 - f.y, f.y - bottom))
    grown = _ramp(length, 0.40, 0.45)
    c.paint(c.mask(locks - 0.012) * grown * _ramp(f.y, -0.05, 0.1), (f.hair * 0.55).clamp(0, 1))
    c.paint(c.mask(locks) * grown, (f.hair * 0.95 * _strands(f)).clamp(0, 1))


def _glasses(c: Canvas, f: Face) -> None:
    eye_x, eye_y = f.eye
    x, y = f.x.abs() - eye_x, f.y - eye_y - 0.01
    circle = (x.square() + y.square() + 1e-9).sqrt() - 0.135
    square = _box(x, y, 0.142, 0.098, 0.03)
    shade = _box(x + 0.25 * (y * 0.25), y - 0.012, 0.150, 0.108, 0.075)
    round_, square_, dark = (f.is_("glasses", v) for v in ("round", "square", "sunglasses"))
    worn = round_ + square_ + dark
    lens = round_ * circle + square_ * square + dark * shade + (1 - worn)
    glare = _ramp(torch.sin((f.x + f.y * 0.8) * 13 + 0.8), 0.72, 0.95)
    clear = round_ + square_
    c.paint(c.mask(lens) * clear * (0.07 + 0.13 * glare), WHITE)
    c.paint(c.mask(lens) * dark, (0.09, 0.09, 0.13))
    c.paint(c.mask(lens + 0.02) * dark * (0.16 * glare + 0.16 * _ramp(-y, -0.02, 0.12)), (0.7, 0.8, 0.95))
    bridge = torch.maximum((f.y - eye_y + 0.02).abs() - 0.012, f.x.abs() - (eye_x - 0.128))
    arms = torch.maximum((f.y - eye_y + 0.02).abs() - 0.012, (eye_x + 0.138) - f.x.abs())
    arms = torch.maximum(arms, f.x.abs() - f.width - 0.03)
    frame = torch.minimum(lens.abs() - 0.0135, torch.minimum(bridge, arms))
    color = round_ * _rgb((0.36, 0.20, 0.10), f.x) + (1 - round_) * _rgb((0.08, 0.08, 0.11), f.x)
    c.paint(c.mask(frame) * worn, color)


def _headwear(c: Canvas, f: Face) -> None:
    x, y = f.x, f.y
    cap, beanie, crown = (f.is_("hat", v) for v in ("cap", "beanie", "crown"))
    wide = f.width + 0.075
    # cap: a dome, a panel seam, a button and a brim
    dome = torch.maximum(_ellipse(x, y + 0.34, wide, 0.40), y + 0.30)
    c.paint(c.mask(dome - 0.012) * cap, (0.08, 0.12, 0.24))
    light = (1.05 - 0.35 * x.square() / 0.16 - 0.15 * (y + 0.5)).clamp(0.5, 1.2)
    c.paint(c.mask(dome) * cap, (_rgb((0.16, 0.27, 0.52), x) * light).clamp(0, 1))
    seams = torch.minimum(
        x.abs(), ((x.square() / 0.040 + (y + 0.34).square() / 0.185).sqrt() - 1).abs() * 0.2
    )
    c.paint(c.mask(torch.maximum(seams - 0.006, dome)) * cap * 0.6, (0.07, 0.12, 0.26))
    brim = _ellipse(x, y + 0.285, wide * 1.08, 0.085)
    c.paint(c.mask(brim - 0.010) * cap, (0.06, 0.09, 0.19))
    c.paint(c.mask(brim) * cap, (0.13, 0.22, 0.44))
    c.paint(c.mask(_ellipse(x, y + 0.315, wide * 0.92, 0.030)) * cap * 0.5, (0.30, 0.42, 0.68))
    # beanie: ribbed dome, folded band, pompom
    knit = torch.maximum(_ellipse(x, y + 0.34, wide * 0.98, 0.355), y + 0.34)
    ribs = 1 + 0.10 * torch.sin(x * 46)
    c.paint(c.mask((x.square() + (y + 0.690).square() + 1e-9).sqrt() - 0.085) * beanie, (0.96, 0.93, 0.86))
    c.paint(c.mask(knit - 0.010) * beanie, (0.36, 0.09, 0.14))
    c.paint(c.mask(knit) * beanie, (_rgb((0.70, 0.18, 0.27), x) * ribs * light).clamp(0, 1))
    band = _box(x, y + 0.335, wide * 1.03, 0.078, 0.05)
    c.paint(c.mask(band - 0.010) * beanie, (0.40, 0.10, 0.16))
    c.paint(c.mask(band) * beanie, (_rgb((0.93, 0.86, 0.76), x) * ribs).clamp(0, 1))
    # crown: a band with five points and jewels
    half = wide * 0.86
    points = 0.115 * (2 / math.pi) * torch.asin(0.999 * torch.cos(x / half * 2.5 * 2 * math.pi - math.pi))
    zigzag = torch.maximum(
        x.abs() - half * (1 + 0.25 * (-0.36 - y)), torch.maximum(y + 0.36, -0.60 + points - y)
    )
    c.paint(c.mask(zigzag - 0.014) * crown, (0.50, 0.34, 0.06))
    shine = 1.0 + 0.22 * torch.cos(x * 9 + 1.0) - 0.12 * _ramp(y, -0.60, -0.36)
    c.paint(c.mask(zigzag) * crown, (_rgb(GOLD, x) * shine).clamp(0, 1))
    ring = (torch.remainder(x / half * 2.5 + 0.5, 1.0) - 0.5) * half / 2.5
    jewel = torch.maximum((ring.square() + (y + 0.43).square() + 1e-9).sqrt() - 0.030, x.abs() - half)
    c.paint(c.mask(jewel) * crown, (0.78, 0.10, 0.24))


def _earrings(c: Canvas, f: Face) -> None:
    pearls, hoops = f.is_("earrings", "pearls"), f.is_("earrings", "hoops")
    x, y = f.x.abs() - f.width - 0.030, f.y - 0.150
    pearl = (x.square() + y.square() + 1e-9).sqrt()
    c.paint(c.mask(pearl - 0.052) * pearls, (0.55, 0.52, 0.56))
    c.paint(c.mask(pearl - 0.042) * pearls, (0.97, 0.95, 0.93))
    glint = ((f.x - f.x.sign() * (f.width + 0.030) + 0.013).square() + (y + 0.013).square() + 1e-9).sqrt()
    c.paint(c.mask(glint - 0.015) * pearls, WHITE)
    ring = ((x.square() + (y - 0.085).square() + 1e-9).sqrt() - 0.088).abs()
    c.paint(c.mask(ring - 0.027) * hoops, (0.45, 0.30, 0.05))
    c.paint(c.mask(ring - 0.017) * hoops, (0.98, 0.80, 0.30))


PARTS = (
    _background, _back_hair, _body, _ears, _skin, _wrinkles, _beard, _nose, _mouth, _eyes, _brows,
    _front_hair, _glasses, _headwear, _earrings,
)  # fmt: skip


def render(attributes: Attributes, size: int = 128, device: torch.device | str | None = None) -> Tensor:
    """Draw portraits.

    Args:
        attributes: Every attribute's values, tensors of shape ``(batch,)``.
        size: Height and width in pixels.
        device: Where to draw; by default where the attributes are.

    Returns:
        Images of shape ``(batch, 3, size, size)``, sRGB values in [0, 1]; differentiable with respect to
        every continuous attribute.
    """
    batch = next(iter(attributes.values())).shape[0]
    device = torch.device(device) if device is not None else attributes["smile"].device
    chunk = max(1, CHUNK_PIXELS // (size * size)) if device.type == "cpu" else 512
    images = []
    for start in range(0, batch, chunk):
        face = _measure(take(attributes, slice(start, start + chunk)), size, device)
        canvas = Canvas(torch.empty(0, dtype=torch.float32, device=device), 2 * SCALE / size)
        for part in PARTS:
            part(canvas, face)
        images.append(canvas.rgb)
    return torch.cat(images).clamp(0, 1)


def change_mask(before: Attributes, after: Attributes, size: int = 128, threshold: float = 1 / 255) -> Tensor:
    """Where two batches of portraits differ: exactly the pixels that an edit may touch.

    Returns:
        Bool tensor of shape ``(batch, 1, size, size)``.
    """
    difference = (render(before, size) - render(after, size)).abs().amax(1, keepdim=True)
    return difference > threshold
