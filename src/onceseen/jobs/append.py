"""Appending a crawl to a finished run: the older shards come first, and their verdicts stand.

The new run lists the older run's shards before its own, each with the run that holds its features. Only pairs with a
new picture are looked for and judged; those of two old ones are taken over. Old pictures choose first, by what they are
to each other alone, so that each of them comes to what it was before: kept or dropped, for the same representative. Its
verdicts and statistics are those of one run over both with `keep.prefer: old` and the same centroids, and so are its
pairs, but for some that are of no score: where a picture has more neighbours in a cell than `cells.neighbors`, only the
new ones choose theirs. Its shards/ holds the new shards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onceseen.core.config import PipelineConfig, ReadConfig
from onceseen.core.config_io import config_to_mapping, load_config
from onceseen.core.files import relative_to
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import Shard
from onceseen.jobs.decisions import DecisionRows, merge_decisions, stored_decisions, with_takedowns
from onceseen.jobs.reference_run import ReferenceRun
from onceseen.jobs.takedowns import read_takedowns
from onceseen.shards import list_shards

OLD = "old"
"""The value of `keep.prefer` by which pictures of an earlier SRC come before those of a later one."""


def append_config(reference: ReferenceRun, path: str | None, overrides: Sequence[str]) -> PipelineConfig:
    """The older run's configuration, a file's settings and `section.key=value` above it.

    Where jobs run is never taken over; recall is not measured, since old pairs are not looked for.

    Raises:
        ValueError: If a setting is unknown or out of range.
    """
    base = config_to_mapping(reference.config)
    del base["runner"]
    base["cells"]["centroids"] = reference.layout.centroids() if reference.config.cells.enabled else ""
    base["cells"]["recall_samples"] = 0
    base["keep"]["prefer"] = base["keep"]["prefer"] if base["keep"]["prefer"] != OLD else ""
    return load_config(path, overrides, base)


def older_shards(reference: ReferenceRun, layout: RunLayout) -> list[Shard]:
    """The older run's shards as the new run lists them: by a relative path, so that both can be moved together."""
    return [replace(s, run=relative_to(layout.root, s.run)) for s in reference.shards]


def newer_shards(reference: ReferenceRun, shards: Sequence[Shard], prefix: str) -> list[Shard]:
    """New shards, numbered after the older ones.

    Args:
        reference: The older run.
        shards: From `list_shards`.
        prefix: Stands before the names and ids of the new ones; empty: nothing.

    Raises:
        ValueError: If a name is that of an older shard, or begins with one: ids would be ambiguous.
    """
    first = reference.next_number
    before = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    renamed = [
        replace(
            s,
            number=first + s.number,
            name=before + s.name,
            id_prefix=before + s.id_prefix if s.files or s.id_prefix else s.id_prefix,
        )
        for s in shards
    ]
    taken = {s.name for s in reference.shards}
    for shard in renamed:
        parts = shard.name.split("/")
        starts = {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
        same = starts & taken or {t for t in taken if t.startswith(f"{shard.name}/")}
        if same:
            raise ValueError(
                f"{shard.path} would be shard {shard.name!r}, and {reference.layout.root} has shard "
                f"{min(same)!r}: ids would be ambiguous. Give the new ones a prefix: --prefix crawl2"
            )
    return renamed


def both_decisions(reference: ReferenceRun, rows: DecisionRows) -> DecisionRows:
    """The older run's decisions and takedowns, which its verdicts follow, and those given now.

    Raises:
        ValueError: If they contradict each other.
    """
    merged = merge_decisions(stored_decisions(reference.layout), rows)
    return with_takedowns(merged, (row.sample_id for row in read_takedowns(reference.layout)))


def check_new_decisions(reference: ReferenceRun, rows: DecisionRows) -> None:
    """Makes sure that decisions given now leave old shards as they are.

    Raises:
        ValueError: If one speaks of old samples alone.
    """
    old = {s.name for s in reference.shards}

    def is_old(sample_id: str) -> bool:
        parts = sample_id.split("/")
        return any("/".join(parts[:end]) in old for end in range(1, len(parts)))

    for ids in (*((a, b) for a, b, _ in rows.pairs), *((i,) for i, _ in rows.samples)):
        if all(map(is_old, ids)):
            raise ValueError(
                f"the decision on {' and '.join(ids)} speaks of {reference.layout.root} alone, whose shards are "
                "not changed here; run `onceseen dedup --decisions ... --redo match` on that run first"
            )


def older_first(
    shards: Sequence[Shard], sources: Sequence[str], read: ReadConfig
) -> tuple[list[Shard], tuple[int, ...]]:
    """Shards in the order of their SRC, for `keep.prefer: old`.

    Returns:
        The shards, numbered, and the first number of each SRC but the first.

    Raises:
        ValueError: If there is one SRC alone.
    """
    if len(sources) < 2:
        raise ValueError(
            "keep.prefer is 'old', the first of several SRC; expected two SRC or more, oldest first"
        )
    crawl = {s.path: number for number, source in enumerate(sources) for s in list_shards([source], read)}
    ordered = sorted(shards, key=lambda s: (crawl[s.path], name_order(s.name)))
    starts = [n for n in range(1, len(ordered)) if crawl[ordered[n].path] != crawl[ordered[n - 1].path]]
    return [replace(s, number=number) for number, s in enumerate(ordered)], tuple(starts)
