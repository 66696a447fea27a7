"""Images in and out: reading whatever a person brings, and fitting it to what a model takes."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from ditlens.errors import ImageError, SettingError
from ditlens.files import user_path, write_whole

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

ImageLike: TypeAlias = "str | os.PathLike[str] | BinaryIO | Image.Image | torch.Tensor | np.ndarray"
"""A file or its name, a PIL image, a tensor (3, height, width) or (1, 3, height, width), or an array (height,
width) or (height, width, channels). Tensors and arrays hold numbers in [0, 1], or bytes in [0, 255]."""

Size: TypeAlias = tuple[int, int]
"""Width and height in pixels, in the order of PIL."""

MOST_PIXELS = 150_000_000
"""Larger files are refused: decoding them would need gigabytes."""

FORMATS: Mapping[str, str] = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""How images are written, by the ending of the file's name."""


def open_image(image: ImageLike, alpha: bool = True) -> Image.Image:
    """Read an image as upright RGB.

    Colours go through the image's profile to sRGB; transparency is laid on white; of an animation the first frame
    counts.

    Args:
        image: A file, a PIL image, an array or a tensor.
        alpha: False drops transparency instead, as masks want it.

    Raises:
        ImageError: If the file does not exist, is not an image, is damaged or is too large.
    """
    import numpy as np
    import torch
    from PIL import Image

    if isinstance(image, torch.Tensor):
        return to_image(_unit(image.detach().float()) if image.is_floating_point() else image)
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else "The image"
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    elif isinstance(image, str | os.PathLike) or hasattr(image, "read"):
        image = open_file(image)  # type: ignore[arg-type]
    if not isinstance(image, Image.Image):
        raise ImageError(
            f"An image is a file or its name, a PIL image, an array or a tensor; got {type(image).__name__}."
        )
    try:
        image.load()
        if not (image.width and image.height):
            raise ValueError(f"it has {image.width} x {image.height} pixels")
        return _upright_rgb(image, alpha)
    except Warning:  # of one for whom warnings are errors
        raise
    except Exception as error:  # the decoders raise a dozen kinds of errors on broken data
        raise _damaged(name, error) from error
    finally:
        if name != "The image":
            image.close()


def file_of(image: Any) -> list[Path]:
    """The file of an image that was named or opened, if it is known."""
    kept = (
        "name" if hasattr(image, "read") else "filename"
    )  # an open file's, or of an image that Pillow opened
    name = image if isinstance(image, str | os.PathLike) else getattr(image, kept, None)
    return [user_path(name, ImageError).absolute()] if isinstance(name, str | os.PathLike) and name else []


def _damaged(name: str, error: Exception) -> ImageError:
    return ImageError(f"{name} is damaged or cut off: {error}. Save it again from the program it comes from.")


def _from_array(array: np.ndarray) -> Image.Image:
    """An array as a PIL image: (height, width), or with 1 to 4 channels, of which the second or fourth is alpha."""
    import numpy as np
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not array.size or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] > 4):
        raise ImageError(
            f"An image is an array (height, width) or (height, width, channels); got {array.shape}. Move channels "
            "that come first to the end: array.transpose(1, 2, 0)."
        )
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        if array.ndim == 3:
            array = (_unit(array).clip(0, 1) * 255).round().astype(np.uint8)
    try:
        return Image.fromarray(array)
    except TypeError as error:
        raise ImageError(
            f"An image is an array of bytes, or of floats in [0, 1]; got {array.dtype}. If they count from 0 "
            "to 255, pass array.astype('uint8')."
        ) from error


def _unit(values: Any) -> Any:
    """Floats, an array or a tensor, which are refused if they clearly lie outside [0, 1]."""
    bottom, top = (float(values.min()), float(values.max())) if math.prod(values.shape) else (0.0, 0.0)
    if not math.isfinite(top - bottom):
        raise ImageError("The image has values that are not finite: the model or its input is broken.")
    if top > 2:
        raise ImageError(f"The image has values up to {top:g}, but 1 is white. Divide it by 255.")
    if bottom < -0.5:
        raise ImageError(
            f"The image has values down to {bottom:g}, but 0 is black. If they count from -1 to 1, as those of an "
            "autoencoder, pass (image + 1) / 2."
        )
    return values


def open_file(file: str | os.PathLike[str] | BinaryIO) -> Image.Image:
    """Read the header of an image file, without torch: is it an image, and small enough to be decoded?

    Args:
        file: A file, or its name as `ditlens.files.user_path` reads it.

    Raises:
        ImageError: If the file does not exist, is not an image, or is too large.
    """
    from PIL import Image, UnidentifiedImageError

    path: Any = "The file"
    if isinstance(file, str | os.PathLike):
        file = path = user_path(file, ImageError)
        if os.path.isdir(path):
            raise ImageError(f"{path} is a folder. Name one image in it.")
    too_large = f"than {MOST_PIXELS:,}. Make it smaller first."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path} has far more pixels {too_large}") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError(f"There is no file {path}. Check the name, or the folder you are in.") from error
    except PermissionError as error:
        raise ImageError(
            f"{path} may not be read by you: {error.strerror}. Change its permissions."
        ) from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path} is not an image that can be read. Use PNG, JPEG, WebP, GIF, BMP or TIFF."
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.strerror:  # of the file system, not of a decoder
            raise ImageError(f"{path} cannot be read: {error.strerror}. Check where it leads to.") from error
        raise _damaged(str(path), error) from error
    if image.width * image.height > MOST_PIXELS:
        raise ImageError(f"{path} has {image.width} x {image.height} pixels, more {too_large}")
    return image


def _upright_rgb(image: Image.Image, alpha: bool) -> Image.Image:
    """Turn an image as its EXIF data say, bring it to 8 bits of sRGB, and lay it on white or drop its alpha."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    profile = image.info.get("icc_profile")
    if image.mode[0] in "IF":
        image = _to_8_bits(image)
    if image.mode == "La":  # which Pillow turns into nothing else
        image = image.convert("LA")
    opacity = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        opacity = image.getchannel("A")
    image = _to_srgb(image if image.mode in ("CMYK", "LAB") else image.convert("RGB"), profile)
    if opacity is not None and alpha:
        image.putalpha(opacity)
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An image, RGB, CMYK or LAB, as RGB of the sRGB space.

    Args:
        image: The image.
        profile: What its numbers mean (an ICC profile, as bytes); without it they are sRGB. One that is damaged, or
            is for other kinds of images, is left out, with a warning. One for grey fits any image without colours:
            Pillow opens some grey files as RGB.
    """
    from PIL import ImageCms

    fits = {"RGB": "RGB", "GRAY": "RGB", "CMYK": "CMYK", "Lab": "LAB"}
    try:
        if profile or image.mode == "LAB":
            lab = ImageCms.createProfile("LAB") if image.mode == "LAB" else None
            meant = ImageCms.ImageCmsProfile(lab or io.BytesIO(profile or b""))
            space = meant.profile.xcolor_space.strip()
            if fits.get(space) != image.mode or (space == "GRAY" and not _is_grey(image)):
                raise ValueError(f"it is for {space} and not for {image.mode}")
            image = ImageCms.buildTransform(
                meant, ImageCms.createProfile("sRGB"), "L" if space == "GRAY" else image.mode, "RGB",
                ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION,
            ).apply(image.convert("L") if space == "GRAY" else image)  # fmt: skip
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        warnings.warn(
            f"The image's colour profile cannot be used: {error}. It is read as sRGB.", stacklevel=4
        )
    image = image.convert("RGB")
    image.info.pop("icc_profile", None)
    return image


def _is_grey(image: Image.Image) -> bool:
    """Whether no pixel of an RGB image has a colour."""
    red, green, blue = (channel.tobytes() for channel in image.split())
    return red == green == blue


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Deep greyscale to 8 bits: the smallest usual range that holds all values goes from black to white.

    Usual are 0 to 255 and 0 to 65535, of 16-bit images only the latter, and of floats also 0 to 1; beyond
    them, the largest value is white. A value that stands for transparency gives the result alpha.
    """
    import numpy as np
    from PIL import Image

    values = np.nan_to_num(np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0)
    tops = {"I": (255.0, 65535.0), "F": (1.0, 255.0, 65535.0)}.get(image.mode, (65535.0,))
    largest = float(values.max())
    top = next((top for top in tops if largest <= top), largest)
    found = Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8))
    if "transparency" in image.info:
        found.putalpha(
            Image.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
        )
    return found


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Cut the largest centred window of the wanted shape out of an image and scale it."""
    from PIL import Image

    if image.size == (width, height):
        return image
    box = window(image.size, (width, height))
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def window(size: Size, shape: Size) -> tuple[float, float, float, float]:
    """The largest centred window with the proportions of `shape`: left, top, right, bottom, in pixels.

    Args:
        size: Width and height of the image that is cut.
        shape: Width and height whose proportions are wanted.
    """
    width, height = float(size[0]), float(size[1])
    wanted = shape[0] / shape[1]
    if width / height > wanted:
        width = wanted * height
    elif width / height < wanted:
        height = width / wanted
    left, top = (size[0] - width) * 0.5, (size[1] - height) * 0.5
    return left, top, left + width, top + height


def fit_mask(mask: torch.Tensor, image_size: Size, size: Size) -> torch.Tensor:
    """Fit a mask exactly as `fit` fits the image that it belongs to.

    Two kinds of masks are known by their proportions: one of the fitted image, which is scaled only, and one of
    the image before it was fitted, which is cut as the image was. A pixel of the result is as large as the
    largest value in it, so that no thin line is lost.

    Args:
        mask: (1, 1, height, width).
        image_size: Width and height of the image as it was given, upright.
        size: Width and height of the fitted image.

    Returns:
        (1, 1, size[1], size[0]).

    Raises:
        SettingError: If the mask belongs to neither.
    """
    own = (mask.shape[-1], mask.shape[-2])
    if own == tuple(size):
        return mask
    if own != tuple(image_size) and _proportional(own, size):
        left, top, right, bottom = 0.0, 0.0, float(own[0]), float(own[1])
    elif _proportional(own, image_size):
        left, top, right, bottom = window(own, size)
    else:
        raise SettingError(
            f"The mask has {own[0]} x {own[1]} pixels, and it cannot be told where it lies: the image has "
            f"{image_size[0]} x {image_size[1]}, and the model sees {size[0]} x {size[1]} of it. "
            "Draw the mask on the image, or on edit.source_image, which is what the model sees."
        )
    rows = _largest(mask.transpose(-1, -2), top, bottom, size[1]).transpose(-1, -2)
    return _largest(rows, left, right, size[0])


def _proportional(first: Size, second: Size) -> bool:
    """Whether two sizes have the same proportions, but for the rounding of one side to whole pixels."""
    (small, other) = sorted([first, second])
    return any(abs(small[k] - other[k] * small[1 - k] / other[1 - k]) < 1 for k in (0, 1))


def _largest(values: torch.Tensor, begin: float, end: float, count: int) -> torch.Tensor:
    """The largest value in each of `count` equal parts of the last axis between two places."""
    import torch

    width, tiny = (end - begin) / count, 1e-6  # a part that ends on a border does not touch the next value
    parts = []
    for k in range(count):
        first = math.floor(begin + k * width + tiny)
        last = math.ceil(begin + (k + 1) * width - tiny)
        parts.append(values[..., first : max(last, first + 1)].amax(-1))
    return torch.stack(parts, -1)


def sizes(image: Image.Image, side: int, multiple: int, square: bool) -> tuple[int, int]:
    """Width and height for a model whose native images are `side` x `side`.

    Args:
        image: The image.
        side: The model's native side.
        multiple: Both sides must be multiples of this.
        square: Whether the model takes only its native square.
    """
    if square:
        return side, side
    ratio = (image.width / image.height) ** 0.5
    ratio = min(max(ratio, 0.5), 2.0)
    return tuple(max(multiple, round(side * r / multiple) * multiple) for r in (ratio, 1 / ratio))  # type: ignore[return-value]


def to_tensor(image: Image.Image) -> torch.Tensor:
    """An image as (1, 3, height, width), values in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def to_image(tensor: torch.Tensor) -> Image.Image:
    """A tensor (3, height, width) or (1, 3, height, width), values in [0, 1] or bytes, as a PIL image.

    Raises:
        ImageError: If the tensor has another shape or values that are not finite.
    """
    import torch
    from PIL import Image

    if tensor.ndim == 4 and tensor.shape[0] == 1:
        tensor = tensor[0]
    if tensor.ndim != 3 or tensor.shape[0] != 3 or not tensor.numel() or tensor.is_meta:
        raise ImageError(f"An image is a tensor (3, height, width); got {tuple(tensor.shape)}.")
    if tensor.dtype == torch.uint8:
        tensor = tensor / 255
    if not tensor.is_floating_point():
        raise ImageError(f"An image is a tensor of numbers in [0, 1]; got {tensor.dtype}. Divide it by 255.")
    if not bool(torch.isfinite(tensor).all()):
        raise ImageError("The image has values that are not finite: the model or its input is broken.")
    array = (tensor.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(array)


def strip(images: list[Image.Image], labels: list[str], title: str = "", height: int = 160) -> Image.Image:
    """Images in one row on white, each under its label."""
    from PIL import Image, ImageDraw, ImageFont

    gap, head, top = 8, 26, 30 if title else 6
    scaled = [
        i.resize((round(i.width * height / i.height), height), Image.Resampling.LANCZOS) for i in images
    ]
    width = sum(i.width for i in scaled) + gap * (len(scaled) + 1)
    sheet = Image.new("RGB", (width, top + head + height + gap), "white")
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((gap, 8), title, fill="black", font=ImageFont.load_default(size=15))
    left = gap
    for image, label in zip(scaled, labels, strict=True):
        draw.text((left + 2, top + 4), label, fill="black", font=ImageFont.load_default(size=14))
        sheet.paste(image, (left, top + head))
        left += image.width + gap
    return sheet


def save_image(path: Path, image: Image.Image, **options: Any) -> None:
    """Write an image whole or not at all, in the format that the file's name ends in.

    Args:
        path: The file; its folder is made if it is missing.
        image: The image.
        **options: What `PIL.Image.Image.save` takes for this format.

    Raises:
        SettingError: If the name ends in none of `FORMATS`.
        WriteError: If it cannot be written.
    """
    form = FORMATS.get(path.suffix.lower())
    if form is None:
        raise SettingError(f"{path} must end in one of {', '.join(FORMATS)}.")
    memory = io.BytesIO()  # on a full disk, Pillow's JPEG writer ends half-way and says nothing
    image.save(memory, form, **options)
    write_whole(path, memory.getvalue())


def to_jpeg(image: Image.Image) -> bytes:
    """An image as a JPEG file of good quality, with its colours at full resolution."""
    with io.BytesIO() as memory:
        image.save(memory, "JPEG", quality=90, subsampling=0)
        return memory.getvalue()
