"""Every kind of picture that a person may bring gives a sensible result or an error that says what to do."""

from __future__ import annotations

import io
from pathlib import Path

import icc
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from ditlens import images
from ditlens.ems.masks import read_mask
from ditlens.errors import ImageError, SettingError
from ditlens.images import file_of, fit, open_image, sizes, strip, to_image, to_tensor

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture
def photo() -> Image.Image:
    """A small colourful picture without symmetry."""
    ramp = np.linspace(0, 255, 24, dtype=np.uint8)
    return Image.fromarray(np.stack([*np.meshgrid(ramp, ramp[:16]), np.full((16, 24), 99, np.uint8)], -1))


def saved(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


# --- modes -------------------------------------------------------------------------------------------------


def test_rgb_is_left_alone(tmp_path, photo):
    assert np.array_equal(open_image(saved(tmp_path / "a.png", photo)), photo)
    assert np.array_equal(open_image(photo), photo)


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (*RED, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    found = open_image(saved(tmp_path / "a.png", image))
    assert found.getpixel((0, 0)) == WHITE
    assert found.getpixel((1, 0)) == (127, 127, 127)


def test_grey_with_transparency(tmp_path):
    image = Image.new("LA", (2, 1), (0, 0))
    image.putpixel((1, 0), (40, 255))
    found = open_image(saved(tmp_path / "a.png", image))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == [WHITE, (40, 40, 40)]


def test_palette_with_a_transparent_colour(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([*GREEN, *BLUE])
    image.putpixel((1, 0), 1)
    found = open_image(saved(tmp_path / "a.png", image, transparency=0))
    assert [found.getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLUE]


def test_grey_8_bit(tmp_path):
    found = open_image(saved(tmp_path / "a.png", Image.new("L", (3, 2), 77)))
    assert (found.mode, found.size, found.getpixel((2, 1))) == ("RGB", (3, 2), (77, 77, 77))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_grey_16_bit(tmp_path, name):
    values = np.array([[0, 100, 32768, 65535]], np.uint16)
    found = open_image(saved(tmp_path / name, Image.fromarray(values)))
    assert [found.getpixel((x, 0))[0] for x in range(4)] == [0, 0, 128, 255]


def test_a_dark_16_bit_picture_stays_dark():
    assert open_image(Image.fromarray(np.full((2, 2), 255, np.uint16))).getpixel((0, 0)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (np.array([[0, 51, 255]], np.int32), (0, 51, 255)),
        (np.array([[0, 13107, 65535]], np.int32), (0, 51, 255)),
        (np.array([[-5, 200_000, 1_000_000]], np.int32), (0, 51, 255)),
        (np.array([[0.0, 0.2, 0.5]], np.float32), (0, 51, 128)),
        (np.array([[0.0, 51.0, 255.0]], np.float32), (0, 51, 255)),
        (np.array([[np.nan, np.inf, 1.0]], np.float32), (0, 0, 255)),
        (np.zeros((1, 3), np.float32), (0, 0, 0)),
    ],
)
def test_other_deep_greys(values, wanted):
    found = open_image(Image.fromarray(values))
    assert tuple(found.getpixel((x, 0))[0] for x in range(3)) == wanted


@pytest.mark.parametrize(("mode", "color"), [("1", 1), ("CMYK", (0, 0, 0, 0)), ("YCbCr", (255, 128, 128))])
def test_white_in_other_modes(tmp_path, mode, color):
    name = "a.png" if mode == "1" else "a.jpg"
    found = open_image(saved(tmp_path / name, Image.new(mode, (8, 8), color)))
    assert found.mode == "RGB"
    assert min(found.getpixel((4, 4))) >= 253


def test_cmyk_red_is_red(tmp_path):
    red, green, blue = open_image(
        saved(tmp_path / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)))
    ).getpixel((4, 4))
    assert red > 245
    assert max(green, blue) < 10


# The stored corner that is the upper left of the upright picture, for every EXIF orientation.
CORNERS = {1: (0, 0), 2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (0, 1), 7: (1, 1), 8: (1, 0)}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_exif_orientation(tmp_path, orientation, name):
    image = Image.new("RGB", (48, 32), BLUE)
    right, low = CORNERS[orientation]
    image.paste(RED, (32 * right, 16 * low, 32 * right + 16, 16 * low + 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = open_image(saved(tmp_path / name, image, exif=exif))
    assert found.size == ((48, 32) if orientation < 5 else (32, 48))
    red, _, blue = found.getpixel((8, 8))
    assert red > 200 > 60 > blue


def test_the_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, GREEN)]
    path = saved(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    assert open_image(path).getpixel((0, 0)) == RED


@pytest.mark.parametrize("alpha", [True, False])
@pytest.mark.parametrize("kind", ["LA", "La", "L and a colour", "16 bits and a colour"])
def test_grey_with_alpha_is_read_as_its_rgba_twin(tmp_path, kind, alpha):
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    clear = np.where(values == 80, 0, 255).astype(np.uint8)
    twin = Image.fromarray(np.dstack([values] * 3 + [clear]))
    if kind in ("LA", "La"):
        image = Image.fromarray(np.dstack([values, clear])).convert(kind)
    elif kind == "L and a colour":
        image = saved(tmp_path / "a.png", Image.fromarray(values), transparency=80)
    else:
        deep = Image.fromarray(values.astype(np.uint16) * 257)
        image = saved(tmp_path / "a.png", deep, transparency=80 * 257)
    known = np.asarray(open_image(image, alpha)) == np.asarray(open_image(twin, alpha))
    assert known[clear > 0].all()
    assert known.all() or kind == "La", "premultiplied, a clear pixel has no colour"


# --- colour profiles ---------------------------------------------------------------------------------------

BRICK = (200, 60, 60)
WIDE = icc.in_wide_gamut(BRICK)


def near(image, color, by=1) -> bool:
    """Whether the middle of an image has a colour, but for rounding."""
    found = image.getpixel((image.width // 2, image.height // 2))
    return max(abs(a - b) for a, b in zip(found, color, strict=True)) <= by


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_colours_go_through_their_profile_to_srgb(tmp_path, name):
    path = tmp_path / name
    Image.new("RGB", (16, 16), WIDE).save(path, icc_profile=icc.wide_gamut(), quality=100)
    assert max(abs(a - b) for a, b in zip(WIDE, BRICK, strict=True)) > 20, "the profile makes a difference"
    found = open_image(path)
    assert near(found, BRICK, by=1 if name in ("a.png", "a.tif") else 4)
    assert near(open_image(found), BRICK, by=4), "it is applied once"
    assert Image.open(path).getpixel((8, 8))[0] < 190, "the file is as it was"


@pytest.mark.parametrize("mode", ["RGBA", "P", "RGB"])
def test_profiles_of_transparent_images_and_palettes(tmp_path, mode):
    image = Image.new("RGBA", (4, 4), (*WIDE, 255)).convert(mode)
    if mode == "RGBA":
        image.putpixel((0, 0), (*WIDE, 0))
    found = open_image(saved(tmp_path / "a.png", image, icc_profile=icc.wide_gamut()))
    assert near(found, BRICK)
    assert found.getpixel((0, 0)) == WHITE or mode != "RGBA", "the white behind it is that of sRGB"


@pytest.mark.parametrize("kind", ["L", "LA", "I;16", "1", "RGBA"])
def test_profiles_of_grey(tmp_path, kind):
    """Gamma 1 writes a middle grey as 0.2159 of white. Pillow opens grey with alpha of 16 bits as RGBA."""
    image = Image.new("L", (4, 4), 55)
    if kind == "I;16":
        image = Image.fromarray(np.full((4, 4), 55 * 257, np.uint16))
    elif kind == "1":
        image = Image.new("1", (4, 4), 1)
    elif kind in ("LA", "RGBA"):
        image.putalpha(255)
        image = image.convert(kind)
    found = open_image(saved(tmp_path / "a.png", image, icc_profile=icc.grey(1.0)))
    assert near(found, (255,) * 3 if kind == "1" else (128,) * 3)


def test_profiles_of_inks(tmp_path):
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    path = saved(tmp_path / "a.tif", image, icc_profile=icc.inks())
    assert near(open_image(path), (119, 119, 119)), "full cyan is L* 50, as this profile has it"
    assert near(open_image(Image.new("LAB", (2, 2), (128, 128, 128))), (119, 119, 119))


@pytest.mark.parametrize("profile", [b"no profile", icc.grey(1.0), icc.inks()])
def test_profiles_that_do_not_fit_are_left_out_with_a_warning(tmp_path, profile):
    path = saved(tmp_path / "a.png", Image.new("RGB", (2, 2), BRICK), icc_profile=profile)
    with pytest.warns(UserWarning, match="colour profile cannot be used: .* It is read as sRGB"):
        assert near(open_image(path), BRICK, by=0)


def test_srgb_itself_changes_nothing(photo):
    photo.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(open_image(photo), photo)


def test_a_mask_may_be_an_open_file(tmp_path):
    with saved(tmp_path / "m.png", Image.new("L", (4, 4), 255)).open("rb") as file:
        assert read_mask(file).tolist() == torch.ones(1, 1, 4, 4).tolist()


def test_masks_have_profiles_too(tmp_path):
    image = Image.new("L", (4, 4), 55)
    mask = read_mask(saved(tmp_path / "m.png", image, icc_profile=icc.grey(1.0)))
    assert float(mask.mean()) == pytest.approx(128 / 255, abs=0.005)


# --- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3000, 10), (10, 3000), (1, 2000), (127, 129)])
def test_odd_sizes_fill_the_square(tmp_path, size):
    found = fit(open_image(saved(tmp_path / "a.png", Image.new("RGB", size, GREEN))), 128, 128)
    assert found.size == (128, 128)
    assert found.getextrema() == ((0, 0), (255, 255), (0, 0))


@pytest.mark.slow
def test_8000_by_8000(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (8000, 8000), BLUE))
    assert fit(open_image(path), 128, 128).getextrema() == ((0, 0), (0, 0), (255, 255))


def test_fit_takes_the_middle():
    image = Image.new("RGB", (30, 10), RED)
    image.paste(GREEN, (10, 0, 20, 10))
    assert fit(image, 10, 10).getextrema() == ((0, 0), (255, 255), (0, 0))


def test_fit_returns_a_fitting_picture_itself(photo):
    assert fit(photo, *photo.size) is photo


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((100, 100), (1024, 1024)), ((200, 100), (1456, 720)), ((5000, 1), (2048, 512)), ((1, 9), (512, 2048))],
)
def test_sizes_keep_shape_and_area(size, wanted):
    assert sizes(Image.new("L", size), 1024, 16, square=False) == wanted
    assert sizes(Image.new("L", size), 1024, 16, square=True) == (1024, 1024)


# --- what is no picture ------------------------------------------------------------------------------------


def refused(picture, *words: str) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(picture)
    for word in words:
        assert word in str(caught.value)


def test_missing_file(tmp_path):
    refused(tmp_path / "none.png", f"There is no file {tmp_path}/none.png", "Check the name")


def test_any_path_like_object(tmp_path, photo):
    class Entry:
        def __fspath__(self) -> str:
            return str(tmp_path / "a.png")

    refused(Entry(), "There is no file", "a.png")
    saved(tmp_path / "a.png", photo)
    assert np.array_equal(open_image(Entry()), photo) and file_of(Entry()) == [tmp_path / "a.png"]
    assert read_mask(Entry()).shape == (1, 1, 16, 24)


def test_a_link_that_leads_nowhere(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    refused(tmp_path / "a.png", "cannot be read: Too many levels of symbolic links")


def test_folder(tmp_path):
    refused(str(tmp_path), "is a folder", "Name one image in it")


@pytest.mark.parametrize("content", [b"just a text\n", b"", b"\x89PNG\r\n\x1a\n"])
def test_not_a_picture(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    refused(path, "a.png is not an image that can be read", "Use PNG, JPEG")


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif", "bmp", "tiff"])
def test_truncated(tmp_path, form):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    path = tmp_path / f"a.{form}"
    path.write_bytes(buffer.getvalue()[: buffer.tell() * 2 // 3])
    refused(path, f"a.{form} ")


def test_corrupt_in_the_middle(tmp_path, photo):
    data = bytearray(saved(tmp_path / "a.png", photo).read_bytes())
    data[60:75] = bytes(15)
    (tmp_path / "a.png").write_bytes(data)
    refused(tmp_path / "a.png", "a.png is damaged or cut off", "Save it again")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_no_traceback(tmp_path, photo):
    path = saved(tmp_path / "a.jpg", photo, exif=b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x09\x01")
    try:
        assert open_image(path).size == photo.size
    except ImageError as error:
        assert "damaged" in str(error)


def test_a_lazily_opened_picture_is_checked_too(tmp_path, photo):
    path = saved(tmp_path / "a.png", photo)
    path.write_bytes(path.read_bytes()[:70])
    refused(Image.open(path), "The image is damaged or cut off")


@pytest.mark.parametrize("side", [12_500, 14_000])  # Pillow itself refuses the second
def test_too_large_is_refused_before_decoding(tmp_path, side):
    path = saved(tmp_path / "a.bmp", Image.new("RGB", (4, 4)))
    data = bytearray(path.read_bytes())
    data[18:26] = side.to_bytes(4, "little") * 2  # width and height
    path.write_bytes(data)
    refused(path, "pixels", "more", "than 150,000,000. Make it smaller first")


def test_other_types(wrong_types):
    refused(7, "An image is a file or its name, a PIL image, an array or a tensor; got int")
    refused(b"\x89PNG", "got bytes")
    refused(None, "got NoneType")


# --- tensors -----------------------------------------------------------------------------------------------


def test_tensor_round_trip_is_exact(photo):
    tensor = to_tensor(photo)
    assert tensor.shape == (1, 3, 16, 24)
    assert tensor.dtype == torch.float32
    assert np.array_equal(to_image(tensor), photo)
    assert np.array_equal(open_image(tensor[0]), photo)


def test_tensor_values_beyond_the_range_are_cut():
    assert to_image(torch.full((3, 1, 1), 1.7)).getpixel((0, 0)) == WHITE
    assert to_image(torch.full((3, 1, 1), -0.1)).getpixel((0, 0)) == (0, 0, 0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 4, 4), (4, 4, 3), (4, 4)])
def test_tensor_shapes(shape):
    refused(torch.zeros(shape), "(3, height, width)", str(shape))


def test_tensors_of_other_numbers():
    refused(torch.zeros(3, 4, 4, dtype=torch.int64), "torch.int64", "Divide it by 255")
    refused(torch.full((3, 4, 4), 200.0), "values up to 200, but 1 is white", "Divide it by 255")
    refused(torch.full((3, 4, 4), float("nan")), "not finite")
    for autoencoders in (torch.linspace(-1, 1, 48).view(3, 4, 4), np.linspace(-1, 1, 48).reshape(4, 4, 3)):
        refused(autoencoders, "values down to -1, but 0 is black", "pass (image + 1) / 2")
    assert open_image(torch.full((3, 4, 4), -0.1)).getpixel((0, 0)) == (0, 0, 0), "an autoencoder's overshoot"


@pytest.mark.filterwarnings("error")
def test_gradients_and_half_precision_are_no_obstacle():
    assert open_image(torch.nn.Parameter(torch.ones(3, 2, 2))).getpixel((0, 0)) == WHITE
    assert open_image(torch.ones(3, 2, 2).to(torch.float8_e4m3fn)).getpixel((0, 0)) == WHITE
    assert to_image(torch.ones(3, 2, 2, dtype=torch.bfloat16, requires_grad=True)).getpixel((0, 0)) == WHITE


def test_bytes_in_a_tensor_are_bytes(photo):
    tensor = (to_tensor(photo)[0] * 255).round().to(torch.uint8)
    assert np.array_equal(open_image(tensor), photo)
    assert np.array_equal(to_image(tensor[None]), photo)


@pytest.mark.parametrize("size", [(3, 0, 4), (3, 4, 0), (1, 3, 0, 0), (0, 4, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_tensors_without_pixels(size, dtype):
    refused(torch.zeros(size, dtype=dtype), "An image is a tensor (3, height, width); got", str(size[-3:]))


# --- arrays and open files ---------------------------------------------------------------------------------


def test_arrays(photo):
    values = np.asarray(photo)
    assert np.array_equal(open_image(values), photo)
    assert np.array_equal(open_image(values / 255), photo)
    assert np.array_equal(open_image((values / 255).astype(np.float16)), photo)
    with_alpha = np.dstack([values, np.zeros((16, 24), np.uint8)])
    assert open_image(with_alpha).getextrema() == ((255, 255),) * 3
    assert open_image(with_alpha / 255).getextrema() == ((255, 255),) * 3
    for grey in (np.full((2, 3), 77, np.uint8), np.full((2, 3, 1), 77, np.uint8), np.full((2, 3), 77 / 255)):
        assert (open_image(grey).size, open_image(grey).getpixel((0, 0))) == ((3, 2), (77, 77, 77))
    assert open_image(np.array([[True, False]])).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((3, 16, 24), np.uint8), "(3, 16, 24). Move channels that come first to the end"),
        (np.zeros((0, 4, 3), np.uint8), "got (0, 4, 3)"),
        (np.zeros(4, np.uint8), "got (4,)"),
        (np.zeros((1, 4, 4, 3), np.uint8), "got (1, 4, 4, 3)"),
        (np.zeros((4, 4, 3), np.int64), "got int64. If they count from 0 to 255, pass array.astype('uint8')"),
        (np.array([["a"]]), "An image is an array of bytes, or of floats in [0, 1]; got <U1"),
        (np.full((4, 4, 3), 200.0), "values up to 200, but 1 is white. Divide it by 255"),
        (np.full((4, 4, 3), np.nan), "not finite"),
    ],
)
def test_arrays_that_are_no_images(array, words):
    refused(array, words)


def test_open_files(tmp_path, photo):
    buffer = io.BytesIO()
    photo.save(buffer, "PNG")
    for _ in range(2):
        assert np.array_equal(open_image(buffer), photo), "also when it has been read before"
    with saved(tmp_path / "a.png", photo).open("rb") as file:
        assert np.array_equal(open_image(file), photo)
    refused(io.BytesIO(b"just a text"), "The file is not an image that can be read. Use PNG, JPEG")
    refused(io.StringIO("just a text"), "Binary data must be used")


# --- out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "sub/a.JPG", "a.jpeg", "a.webp"])
def test_images_are_written_in_the_format_of_their_name(tmp_path, photo, name):
    images.save_image(tmp_path / name, photo)
    with Image.open(tmp_path / name) as found:
        assert (found.format, found.size) == (images.FORMATS[Path(name).suffix.lower()], photo.size)


def test_an_unknown_ending_names_those_that_are_known(tmp_path, photo):
    with pytest.raises(SettingError, match="a.gif must end in one of .png, .jpg, .jpeg, .webp"):
        images.save_image(tmp_path / "a.gif", photo)
    assert list(tmp_path.iterdir()) == []


# --- strips ------------------------------------------------------------------------------------------------


def test_strip_shows_every_picture_under_its_label():
    sheet = strip([Image.new("RGB", (10, 10), c) for c in (RED, GREEN)], ["0", "1"], "a title", height=50)
    assert sheet.size == (2 * 50 + 3 * 8, 30 + 26 + 50 + 8)
    assert [sheet.getpixel((x, 90)) for x in (30, 90)] == [RED, GREEN]
    assert sheet.crop((0, 0, 100, 30)).getextrema()[0][0] < 100, "the title is written"


def test_strip_needs_a_label_for_every_picture():
    with pytest.raises(ValueError):
        strip([Image.new("RGB", (10, 10))], [])


def test_limit_leaves_room_for_large_photographs():
    assert images.MOST_PIXELS >= 8000 * 8000
