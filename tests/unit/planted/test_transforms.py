"""Every registered transform and composite: decodable, deterministic, and what its name says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from onceseen.planted.composites import COMPOSITES, apply_composite
from onceseen.planted.imaging import EncodedImage, RgbImage, decode_rgb, encode_jpeg, encode_png
from onceseen.planted.transforms import TRANSFORMS, apply_transform

PHOTOS = Path(__file__).parents[3] / "examples" / "photos"

EXPECTED = {
    *(f"jpeg{quality}" for quality in (8, 15, 30, 50, 70, 90)),
    *(f"crop{percent}" for percent in (10, 20, 30, 50)),
    *("png", "webp", "resize_down", "resize_up", "rotation5", "rotation90", "mirrored", "mirrored_crop"),
    *("left_half", "right_half", "grey", "colour", "brightness", "contrast", "blur", "noise", "text"),
    *("watermark", "logo", "letterbox", "pillarbox", "frame", "screenshot"),
    *("strong", "mirrored_crop_text", "stickers"),
}


@pytest.fixture(scope="module")
def photo() -> RgbImage:
    return decode_rgb((PHOTOS / "nature-kingfisher.jpg").read_bytes())


@pytest.fixture(scope="module")
def photos() -> list[RgbImage]:
    names = ("nature-kingfisher", "farm-cat", "monument-charminar", "animal-panda")
    return [decode_rgb((PHOTOS / f"{name}.jpg").read_bytes()) for name in names]


def make(name: str, photo: RgbImage, seed: int = 5) -> RgbImage:
    return decode_rgb(apply_transform(name, photo, np.random.default_rng(seed)).data)


def correlation(one: RgbImage, two: RgbImage) -> float:
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def test_registry_is_complete() -> None:
    assert set(TRANSFORMS) == EXPECTED
    assert set(COMPOSITES) == {"collage2", "collage4", "picture_in_picture"}


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_transform_is_decodable_deterministic_and_leaves_its_input_alone(name: str, photo: RgbImage) -> None:
    before = photo.copy()
    first = apply_transform(name, photo, np.random.default_rng(11))
    assert isinstance(first, EncodedImage)
    assert first == apply_transform(name, photo, np.random.default_rng(11))
    assert np.array_equal(before, photo)
    made = decode_rgb(first.data)
    assert min(made.shape[:2]) >= 64
    signature = {"jpg": b"\xff\xd8\xff", "png": b"\x89PNG", "webp": b"RIFF"}[first.extension]
    assert first.data.startswith(signature)


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_transform_takes_tall_and_small_pictures(name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (150, 70, 3)).astype(np.uint8)
    assert make(name, noise).size > 0


def test_random_transforms_follow_the_generator(photo: RgbImage) -> None:
    for name in ("crop30", "noise", "colour", "letterbox", "text", "screenshot", "stickers"):
        one = apply_transform(name, photo, np.random.default_rng(1))
        two = apply_transform(name, photo, np.random.default_rng(2))
        assert one.data != two.data, name


@pytest.mark.parametrize("percent", [10, 20, 30, 50])
def test_crop_removes_that_share_of_the_area(percent: int, photo: RgbImage) -> None:
    height, width = make(f"crop{percent}", photo).shape[:2]
    assert height * width / (photo.shape[0] * photo.shape[1]) == pytest.approx(1 - percent / 100, abs=0.01)


def test_geometry(photo: RgbImage) -> None:
    height, width = photo.shape[:2]
    assert correlation(make("mirrored", photo)[:, ::-1], photo) > 0.99
    assert correlation(make("mirrored", photo), photo) < 0.9
    left, right = make("left_half", photo), make("right_half", photo)
    assert left.shape[1] + right.shape[1] == width
    assert correlation(np.hstack([left, right]), photo) > 0.99
    assert make("rotation90", photo).shape[:2] == (width, height)
    assert make("resize_up", photo).shape[0] >= 1.5 * height - 1
    assert make("resize_down", photo).shape[0] <= 0.7 * height + 1


def test_surroundings_keep_every_pixel_of_the_picture(photo: RgbImage) -> None:
    height, width = photo.shape[:2]
    for name in ("letterbox", "pillarbox", "frame"):
        made = make(name, photo)
        top, left = (made.shape[0] - height) // 2, (made.shape[1] - width) // 2
        assert top + left > 0
        assert correlation(made[top : top + height, left : left + width], photo) > 0.99
    tall = make("letterbox", photo)
    assert tall.shape[1] == width
    assert tall[:4].max() < 24


def test_lossless_and_grey(photo: RgbImage) -> None:
    assert np.array_equal(make("png", photo), photo)
    grey = make("grey", photo).astype(int)
    assert np.ptp(grey, axis=2).max() <= 8
    assert (
        len(apply_transform("jpeg8", photo, np.random.default_rng(0)).data)
        < len(encode_jpeg(photo, 90).data) / 4
    )


def test_unknown_names_and_wrong_arrays_are_refused(photo: RgbImage, photos: list[RgbImage]) -> None:
    with pytest.raises(ValueError, match="unknown transform 'shear'"):
        apply_transform("shear", photo, np.random.default_rng(0))
    with pytest.raises(ValueError, match="unknown composite"):
        apply_composite("collage3", photos, np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected 2 pictures, got 4"):
        apply_composite("collage2", photos, np.random.default_rng(0))
    with pytest.raises(ValueError, match="RGB picture"):
        encode_png(photo[:, :, 0])
    with pytest.raises(ValueError, match="cannot decode"):
        decode_rgb(b"no picture")


@pytest.mark.parametrize("name", sorted(COMPOSITES))
def test_composites_are_decodable_and_deterministic(name: str, photos: list[RgbImage]) -> None:
    taken = photos[: COMPOSITES[name].sources]
    first = apply_composite(name, taken, np.random.default_rng(3))
    assert first == apply_composite(name, taken, np.random.default_rng(3))
    assert decode_rgb(first.data).shape[0] >= 256


def test_picture_in_picture_shows_the_second_picture(photos: list[RgbImage]) -> None:
    whole = photos[0]
    made = decode_rgb(apply_composite("picture_in_picture", photos[:2], np.random.default_rng(3)).data)
    changed = np.abs(made.astype(int) - whole.astype(int)).max(axis=2) > 40
    assert 0.05 < changed.mean() < 0.2
