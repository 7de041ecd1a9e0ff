"""Run img2dataset with settings that suit deduplication, and count what came of it.

img2dataset (MIT; Beaumont 2021, github.com/rom1504/img2dataset) downloads the pictures of a table and writes
WebDataset shards: ``00000.tar`` with ``<key>.jpg``, ``.txt`` and ``.json``, ``00000.parquet`` with a row for
each URL, failed ones included, and ``00000_stats.json``, which also marks the shard as done. What differs
from its defaults, and why:

* Pictures are not resized, and JPEGs are stored as they were served, so that equal files stay equal files.
  Other formats become JPEG of quality 95, because img2dataset names every picture ``.jpg``.
* Bytes that do not decode are refused and counted under ``failed_to_resize``.
* Nothing is reported to anyone: wandb stays off.

A site's ``X-Robots-Tag`` with ``noai``, ``noimageai``, ``noindex`` or ``noimageindex`` is respected, as by
default.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onceseen.fetch.tables import input_format, table_columns
from onceseen.quiet import disable_telemetry

__all__ = ["FetchConfig", "FetchSummary", "fetch"]

_MARK = ".onceseen-fetch"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FetchConfig:
    """What to fetch and how.

    Attributes:
        urls: Table of URLs: .txt (one a line), .csv, .tsv, .json, .jsonl (each also .gz) or .parquet.
        output: Local directory of the shards; made if it is not there.
        url_column: Column of the URLs; a .txt has only that one.
        caption_column: Column of the captions; None writes no captions.
        extra_columns: Further columns to carry into the json and parquet of each sample.
        processes: Processes, each of which downloads one shard at a time.
        threads: Downloads at the same time in each process.
        shard_size: URLs a shard, 2 or more; img2dataset's keys have one digit too few for 1.
        timeout_s: Seconds without an answer after which a download is given up, 1 or more.
        retries: Further tries of a download that failed.
        shard_retries: Further tries of a shard that failed as a whole.
        user_agent: Token that names you to sites, also for their X-Robots-Tag; None sends none.
    """

    urls: str
    output: str
    url_column: str = "url"
    caption_column: str | None = None
    extra_columns: tuple[str, ...] = ()
    processes: int = 1
    threads: int = 32
    shard_size: int = 10_000
    timeout_s: int = 10
    retries: int = 2
    shard_retries: int = 1
    user_agent: str | None = None

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: One of them is out of its range.
        """
        for name, least in (("processes", 1), ("threads", 1), ("shard_size", 2), ("timeout_s", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"fetch {name} is {getattr(self, name)}, expected {least} or more")
        for name in ("retries", "shard_retries"):
            if getattr(self, name) < 0:
                raise ValueError(f"fetch {name} is {getattr(self, name)}, expected 0 or more")


@dataclass(frozen=True, slots=True)
class FetchSummary:
    """What is in the output directory after a fetch; shards of an earlier, interrupted one are counted too.

    Attributes:
        shards: Finished shards.
        read: URLs in them.
        fetched: Pictures written.
        failed_to_download: No answer, an error status, or use disallowed by the site.
        failed_to_decode: An answer that is no picture (img2dataset's ``failed_to_resize``).
        errors: How often each message occurred, most frequent first; successes are not among them.
    """

    shards: int
    read: int
    fetched: int
    failed_to_download: int
    failed_to_decode: int
    errors: Mapping[str, int] = field(default_factory=dict)


def fetch(config: FetchConfig) -> FetchSummary:
    """Download the pictures of a table into shards.

    A fetch that was interrupted goes on with the shards that are missing; a finished one is left as it is. Keys
    follow the order of the table; the order of samples within a tar is that in which the answers came.
    img2dataset starts its processes by spawn, so a script that calls this needs ``if __name__ == "__main__":``.
    It prints its progress to standard error.

    Args:
        config: What to fetch and how.

    Returns:
        Counts over the whole output directory.

    Raises:
        ValueError: The table is not there, is empty, is of an unknown kind or lacks a column; or the output
            holds the shards of another table or of another shard size.
        ModuleNotFoundError: img2dataset is not installed.
        RuntimeError: Some shards could not be written, after ``shard_retries`` further tries.
    """
    expected_shards = -(-_check_table(config) // config.shard_size)
    _require_img2dataset()
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    _claim(output, config)
    summary = summarize(output)
    if summary.shards == expected_shards:
        _log.info("all %d shards of %s are in %s already", expected_shards, config.urls, output)
        return summary
    _download(config)
    summary = summarize(output)
    if summary.shards != expected_shards:
        raise RuntimeError(
            f"fetch wrote {summary.shards} of {expected_shards} shards to {output}; img2dataset's messages "
            "above say why. The same command goes on with those that are missing"
        )
    return summary


def summarize(output: Path) -> FetchSummary:
    """Add up the ``*_stats.json`` of a directory.

    Args:
        output: Directory that img2dataset wrote to.

    Returns:
        The sums.
    """
    totals: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    files = sorted(output.glob("*_stats.json"))
    for file in files:
        stats = json.loads(file.read_text(encoding="utf-8"))
        for name in ("count", "successes", "failed_to_download", "failed_to_resize"):
            totals[name] += int(stats[name])
        errors.update({str(k): int(n) for k, n in stats["status_dict"].items() if k != "success"})
    return FetchSummary(
        shards=len(files),
        read=totals["count"],
        fetched=totals["successes"],
        failed_to_download=totals["failed_to_download"],
        failed_to_decode=totals["failed_to_resize"],
        errors=dict(sorted(errors.items(), key=lambda item: (-item[1], item[0]))),
    )


def _check_table(config: FetchConfig) -> int:
    """Number of URLs in a table that has all columns asked for."""
    columns, rows = table_columns(config.urls)
    missing = [name for name in _wanted_columns(config) if name not in columns]
    if missing:
        absent, present = (", ".join(map(repr, names)) for names in (missing, columns))
        raise ValueError(
            f"{config.urls} has no column {absent}; it has {present}: name the columns with --url-column, "
            "--caption-column and --extra-column"
        )
    if rows == 0:
        raise ValueError(f"{config.urls} holds no URL: expected at least one row")
    return rows


def _wanted_columns(config: FetchConfig) -> list[str]:
    captions = [config.caption_column] if config.caption_column else []
    return [config.url_column, *captions, *config.extra_columns]


def _require_img2dataset() -> None:
    if importlib.util.find_spec("img2dataset") is None:
        raise ModuleNotFoundError(
            "fetch needs img2dataset, which is not installed: pip install 'onceseen[fetch]'",
            name="img2dataset",
        )


def _claim(output: Path, config: FetchConfig) -> None:
    """Write down what the directory's shards are of, or refuse what differs from it.

    img2dataset skips shards that are done by number alone, so another table would silently be left out.
    """
    with open(config.urls, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    columns = json.dumps(_wanted_columns(config), ensure_ascii=False)
    claim = f"table sha256 {digest}\ncolumns {columns}\nshard_size {config.shard_size}\n"
    mark = output / _MARK
    if mark.exists():
        if mark.read_text(encoding="utf-8") != claim:
            raise ValueError(
                f"{output} holds shards of another table, other columns or another shard size than "
                f"{config.urls} with {config.shard_size} URLs a shard: choose another --output or empty that directory"
            )
    elif any(output.glob("*_stats.json")):
        raise ValueError(f"{output} holds shards that onceseen fetch did not write: choose another --output")
    else:
        mark.write_text(claim, encoding="utf-8")


def _download(config: FetchConfig) -> None:
    disable_telemetry()
    import img2dataset

    with _own_interrupt_handler(), contextlib.redirect_stdout(sys.stderr):
        img2dataset.download(
            url_list=str(Path(config.urls).resolve()),
            output_folder=str(Path(config.output).resolve()),
            input_format=input_format(config.urls),
            url_col=config.url_column,
            caption_col=config.caption_column,
            save_additional_columns=list(config.extra_columns) or None,
            output_format="webdataset",
            resize_mode="no",
            skip_reencode=True,
            encode_format="jpg",
            encode_quality=95,
            compute_hash="sha256",
            processes_count=config.processes,
            thread_count=config.threads,
            number_sample_per_shard=config.shard_size,
            timeout=config.timeout_s,
            retries=config.retries,
            max_shard_retry=config.shard_retries,
            user_agent_token=config.user_agent,
            incremental_mode="incremental",
            enable_wandb=False,
        )


@contextlib.contextmanager
def _own_interrupt_handler() -> Iterator[None]:
    """Put the handler of Ctrl-C back, which img2dataset replaces for good."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
