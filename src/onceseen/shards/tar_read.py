"""Samples of a WebDataset / img2dataset tar, one at a time, and pictures read again by range."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onceseen.core.config import ReadConfig
from onceseen.core.failures import Failure, FailureReason
from onceseen.core.files import open_parts, open_read
from onceseen.core.ids import sample_id
from onceseen.core.records import ImageSample, Shard
from onceseen.shards.extensions import (
    JSON_EXTENSION,
    OWN_EXTENSION,
    TEXT_EXTENSIONS,
    caption_of,
    decode_caption,
    is_image,
    last_part,
    meta_of,
    parse_json,
)
from onceseen.shards.grouping import MemberGrouper
from onceseen.shards.records import WantedImage
from onceseen.shards.tar_members import TarDamage, TarMember, walk_members
from onceseen.shards.window import Window

_STAGE = "read"


def read_tar(shard: Shard, config: ReadConfig) -> Iterator[ImageSample | Failure]:
    """Yields the samples of a tar in order, then a `Failure` if the tar itself is damaged.

    A sample is what is complete before the damage: if its image is whole it is judged, though a later member
    of it may be cut; a member whose data is cut is as good as not there.

    Memory: one sample and a window of 1 MiB. Cost: one sequential pass, images are copied once.
    """
    try:
        with open_read(shard.path) as stream:
            yield from _read_samples(shard, config, Window(stream))
    except TarDamage as damage:
        yield Failure(shard.name, _STAGE, damage.reason, damage.detail)
    except OSError as error:
        yield Failure(shard.name, _STAGE, FailureReason.UNREADABLE_SHARD, str(error))


def read_tar_images(shard: Shard, wanted: Sequence[WantedImage]) -> Iterator[tuple[int, bytes]]:
    """Yields (row, bytes) of the wanted pictures in order of offset, by one seek and read each.

    Raises:
        ValueError: If the tar ends before a picture does, so is not the one that was read before.
        OSError: If the tar cannot be read.
    """
    with open_parts(shard.path) as stream:
        for want in sorted(wanted, key=lambda w: w.member_offset):
            stream.seek(want.member_offset)
            data = stream.read(want.member_size)
            if len(data) != want.member_size:
                raise ValueError(
                    f"{shard.path}: {want.member} at byte {want.member_offset} has {len(data)} bytes; "
                    f"expected {want.member_size}: the shard has changed since it was read, run again with "
                    "--overwrite"
                )
            yield want.row, data


def _read_samples(shard: Shard, config: ReadConfig, window: Window) -> Iterator[ImageSample]:
    """Samples; raises `TarDamage` after the last one, where there is damage."""
    grouper = MemberGrouper()
    members = walk_members(window)
    draft: _Draft | None = None
    row = 0
    damage: TarDamage | None = None
    while True:
        try:
            member = next(members, None)
        except TarDamage as error:
            member, damage = None, error
        if member is None:
            break
        placed = grouper.place(member)
        if placed.key is None:
            continue
        if placed.starts:
            if draft is not None:
                yield draft.sample()
            draft = _Draft(shard, config, row, placed.key)
            row += 1
        if draft is not None:
            draft.add(member, placed.extension, window)
    if draft is not None:
        yield draft.sample()
    if damage is not None:
        raise damage


class _Draft:
    """A sample whose members are still coming."""

    def __init__(self, shard: Shard, config: ReadConfig, row: int, key: str) -> None:
        self._shard = shard
        self._config = config
        self._row = row
        self._key = key
        self._image: TarMember | None = None
        self._extension = ""
        self._image_exact = False
        self._data: bytes | None = None
        self._caption: bytes | None = None
        self._caption_exact = False
        self._json: bytes | None = None
        self._json_exact = False
        self._others: list[str] = []

    def add(self, member: TarMember, extension: str, window: Window) -> None:
        """Takes what it needs of the next member.

        The sample's image is the first with a plain extension (`jpg`), else the first: beside a picture, `mask.png` or
        `depth.png` say something about it, and equal masks make no equal pictures.
        """
        if not member.is_file:
            self._others.append(f"{extension} (a link or sparse file)")
            return
        small = member.size <= self._config.max_bytes
        kind = last_part(extension)
        if is_image(extension):
            exact = kind == extension
            if self._image is None or (exact and not self._image_exact):
                self._image, self._extension, self._image_exact = member, kind, exact
                self._data = window.take(member.data, member.size) if small else None
            return
        self._others.append(extension)
        if kind in TEXT_EXTENSIONS and small:
            exact = kind == extension
            if self._caption is None or (exact and not self._caption_exact):
                self._caption = window.take(member.data, member.size)
                self._caption_exact = exact
        elif kind == JSON_EXTENSION and extension != OWN_EXTENSION and small:
            exact = kind == extension
            if self._json is None or (exact and not self._json_exact):
                self._json = window.take(member.data, member.size)
                self._json_exact = exact

    def sample(self) -> ImageSample:
        """The finished sample."""
        error, detail = self._error()
        fields = parse_json(self._json) if self._json is not None else {}
        image = self._image
        return ImageSample(
            row=self._row,
            key=self._key,
            sample_id=sample_id(self._shard.name, self._key),
            image=self._data if error is None else None,
            extension=self._extension,
            member=image.name if image else "",
            member_offset=image.data if image else -1,
            member_size=image.size if image else 0,
            caption=decode_caption(self._caption) if self._caption is not None else caption_of(fields),
            meta=meta_of(fields, self._config.meta_columns),
            error=error,
            error_detail=detail,
        )

    def _error(self) -> tuple[FailureReason | None, str]:
        if self._image is None:
            return FailureReason.NO_IMAGE, "members: " + ", ".join(self._others[:16])
        if self._image.size == 0:
            return FailureReason.EMPTY_IMAGE, self._image.name
        if self._data is None:
            limit = self._config.max_bytes
            return FailureReason.TOO_MANY_BYTES, f"{self._image.size} bytes; read.max_bytes is {limit}"
        return None, ""
