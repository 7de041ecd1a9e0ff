"""The samples of a run that files show: by the index of `onceseen.reference`, which is built where there is none."""

from __future__ import annotations

from collections.abc import Sequence

from onceseen.core.failures import SampleError
from onceseen.core.layout import RunLayout
from onceseen.detect import Match
from onceseen.reference import Reference


def search_images(layout: RunLayout, images: Sequence[str]) -> dict[str, list[Match]]:
    """What each image file is a verified duplicate of, one sample for each class of equal pixels.

    Args:
        layout: A finished run.
        images: Paths of image files.

    Raises:
        ValueError: If the run cannot be searched, or a file is no picture that can be decoded.
        OSError: If a file cannot be read.
        SourceUnreachableError: If a doubtful pair needs a picture of SRC that cannot be read.
    """
    if not images:
        return {}
    reference = Reference.open(layout.root)
    found: dict[str, list[Match]] = {}
    for path in dict.fromkeys(images):
        try:
            (found[path],) = reference.duplicates(path)
        except SampleError as error:
            raise ValueError(f"{path} is no picture that can be searched for: {error}") from error
    return found
