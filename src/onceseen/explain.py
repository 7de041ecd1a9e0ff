"""Why a sample was kept or dropped, and what is known of two samples as a pair.

Everything is read from the run's tables. A pair without a row was never compared, or stayed under the margin:
its cosine and PDQ distance are then worked out from the features.

RUN may be remote; Beam's options for its store, such as --s3_endpoint_url=..., may be given as well.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from onceseen.core.files import exists, read_table
from onceseen.core.ids import name_order
from onceseen.core.layout import RunLayout
from onceseen.core.records import Verdict
from onceseen.core.schemas import OK
from onceseen.fingerprint import hamming_distance
from onceseen.jobs.decisions import stored_decisions
from onceseen.jobs.takedowns import read_takedowns
from onceseen.stats.lookup import (
    PairRow,
    RunRecord,
    VerdictRow,
    find_features,
    find_pairs,
    find_verdicts,
    group_members,
    ordered,
    pairs_of_sample,
    read_run,
    require_verdicts,
    shards_of,
)
from onceseen.stats.report.figures import plural

TAKES_BEAM_OPTIONS = True
MAX_MEMBERS = 12
MAX_NEAR = 5
_FACTS = ("status", "format", "width", "height", "num_bytes", "sharpness", "pdq_quality", "blank", "caption")
_PAIR_FACTS = ("status", "sha256", "pixel_hash", "pdq", "pdq_mirrored", "embedding", "blank", "views")


def explain_sample(layout: RunLayout, sample_id: str) -> str:
    """Why a sample was kept, dropped or failed, as text.

    Reads the shard of each sample named, the pairs once, and for a kept picture every shard's verdicts once.

    Raises:
        ValueError: If RUN is not a finished run, or holds no such sample (with the nearest ids).
    """
    run = read_run(layout)
    require_verdicts(layout, run)
    row = _known_verdicts(layout, run, [sample_id])[sample_id]
    own = find_features(layout, run.shards, [sample_id], _FACTS)[sample_id]
    lines = [sample_id, f"  verdict        {row.verdict}", *_picture_lines(own)]
    lines += [f"  a person's word {word}" for word in _decisions_on(layout, sample_id)]
    if row.verdict == Verdict.FAILED:
        return "\n".join([*lines, *_failure_lines(layout, run, row)])
    if row.verdict == Verdict.DROP:
        lines += _dropped_lines(layout, run, row, own)
    elif row.group_id == sample_id:
        lines += _kept_lines(layout, run, row)
    else:
        lines.append(f"  kept too       beside {row.group_id}, under keep.max_copies or a decision")
    lines.append(
        f"  component      {row.component_id or sample_id}, {plural(max(1, row.component_size), 'sample')}"
    )
    return "\n".join([*lines, *_near_lines(layout, run, row)])


def explain_pair(layout: RunLayout, sample_id_a: str, sample_id_b: str) -> str:
    """What is known of two samples as a pair, as text.

    Raises:
        ValueError: If RUN is not a finished run, holds no such sample, or both ids are the same.
    """
    if sample_id_a == sample_id_b:
        raise ValueError(f"{sample_id_a} was given twice; expected two different samples, or one alone")
    run = read_run(layout)
    require_verdicts(layout, run)
    verdicts = _known_verdicts(layout, run, [sample_id_a, sample_id_b])
    first, second = ordered(sample_id_a, sample_id_b)
    lines = [f"a: {first}", f"b: {second}"]
    for name, sample_id in (("a", first), ("b", second)):
        row = verdicts[sample_id]
        under = "" if row.group_id == sample_id else f", under {row.group_id}"
        lines.append(f"  verdict of {name}   {row.verdict}{under}")
    same = verdicts[first].group_id == verdicts[second].group_id
    lines.append(f"  same group     {'yes' if same else 'no'}")
    word = stored_decisions(layout).pair(first, second)
    lines += [f"  a person's word {word}: it stands above every score"] if word else []
    pair = find_pairs(layout, {(first, second)}).get((first, second))
    if pair is not None:
        return "\n".join([*lines, "  pairs table:", *_pair_lines(pair)])
    return "\n".join([*lines, *_uncompared_lines(layout, run, first, second)])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of `onceseen explain`."""
    parser.add_argument("run", metavar="RUN", help="directory of a finished run")
    parser.add_argument(
        "sample_ids", metavar="SAMPLE_ID", nargs="+", help="one sample, or two to explain as a pair"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the explanation.

    Returns:
        0; 2 where the run or an id is not known.
    """
    layout = RunLayout.at(args.run)
    ids: Sequence[str] = args.sample_ids
    try:
        if len(ids) > 2:
            raise ValueError(f"expected one SAMPLE_ID or two, got {len(ids)}")
        text = explain_sample(layout, ids[0]) if len(ids) == 1 else explain_pair(layout, ids[0], ids[1])
    except ValueError as error:
        print(f"onceseen explain: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def _known_verdicts(layout: RunLayout, run: RunRecord, sample_ids: Sequence[str]) -> dict[str, VerdictRow]:
    found = find_verdicts(layout, run.shards, sample_ids)
    for sample_id in sample_ids:
        if sample_id not in found:
            near = _nearest(layout, run, sample_id)
            hint = f"the nearest ids are {', '.join(near)}" if near else "no id is like it"
            raise ValueError(f"{layout.root} has no sample {sample_id!r}; {hint}")
    return found


def _nearest(layout: RunLayout, run: RunRecord, sample_id: str) -> list[str]:
    """The three most similar ids of the shard that the id names, else of shards with the nearest names."""
    shards = list(shards_of([sample_id], run.shards))
    shards = shards or difflib.get_close_matches(
        sample_id.rpartition("/")[0], run.shard_names, n=2, cutoff=0.0
    )
    ids = [
        i
        for shard in shards
        for i in read_table(layout.verdicts(shard), columns=["sample_id"])[0].to_pylist()
    ]
    return difflib.get_close_matches(sample_id, sorted(ids, key=name_order), n=3, cutoff=0.4)


def _decisions_on(layout: RunLayout, sample_id: str) -> list[str]:
    """What a person said of a sample, alone or with another."""
    rows = stored_decisions(layout)
    said = [word for named, word in rows.samples if named == sample_id]
    return said + [
        f"{word} as {b if a == sample_id else a}".replace("different as", "different from")
        for a, b, word in rows.pairs
        if sample_id in (a, b)
    ]


def _picture_lines(features: dict[str, Any]) -> list[str]:
    if features["status"] != OK:
        return []
    per_pixel = features["num_bytes"] / max(1, features["width"] * features["height"])
    lines = [
        f"  picture        {features['width']} x {features['height']} {features['format']}, "
        f"{features['num_bytes']:,} bytes ({per_pixel:.3f} a pixel), "
        f"sharpness {_number(features['sharpness'], 1)}",
    ]
    if features["blank"]:
        lines.append("  blank          matches on exact pixels alone")
    if features["caption"]:
        lines.append(f"  caption        {_line(features['caption'])}")
    return lines


def _dropped_lines(layout: RunLayout, run: RunRecord, row: VerdictRow, own: dict[str, Any]) -> list[str]:
    if row.group_id == row.sample_id:
        taken = [t for t in read_takedowns(layout) if t.sample_id == row.sample_id]
        if taken:
            return [f"  dropped        taken down on {taken[0].date}: {_line(taken[0].why)}"]
        return ["  dropped        by a person's decision; no picture stands for it"]
    head = row.representative_id
    lines = [
        f"  kept for it    {head} ({plural(row.copies, 'copy')} in its group)",
        f"  evidence       {row.kind}, score {_number(row.score)}",
    ]
    pair = find_pairs(layout, {row.evidence}).get(row.evidence) if row.evidence is not None else None
    if row.evidence is not None:
        lines.append(f"  pair compared  {row.evidence[0]}  |  {row.evidence[1]}")
        if set(row.evidence) != {row.sample_id, head}:
            lines.append("                 (each is equal in pixels to the sample or to the kept one)")
    if pair is not None:
        lines += _pair_lines(pair)
    kept = find_features(layout, run.shards, [head], _FACTS).get(head)
    return lines + (_order_lines(own, kept, pair, row) if kept else [])


def _order_lines(
    own: dict[str, Any], kept: dict[str, Any], pair: PairRow | None, row: VerdictRow
) -> list[str]:
    """The keep order, criterion by criterion, this sample beside the kept one."""
    head = row.representative_id
    lines = ["  keep order     (this sample | the kept one)"]
    if pair is not None and {row.sample_id, head} == set(pair.ids):
        for name, of in (("foreign share", pair.foreign_of), ("held by other", pair.coverage_of)):
            lines.append(f"    {name:<15}{_number(of(row.sample_id))} | {_number(of(head))}")
    sharp = [_number(f["sharpness"], 1) for f in (own, kept)]
    pixel = [_number(f["num_bytes"] / max(1, f["width"] * f["height"])) for f in (own, kept)]
    lines.append(f"    {'sharpness':<15}{sharp[0]} | {sharp[1]}")
    lines.append(f"    {'bytes a pixel':<15}{pixel[0]} | {pixel[1]}")
    return lines


def _kept_lines(layout: RunLayout, run: RunRecord, row: VerdictRow) -> list[str]:
    weight = "" if row.weight is None else f", weight {row.weight:g}"
    lines = [f"  stands for     {plural(row.copies, 'copy')}, itself included{weight}"]
    if row.copies < 2:
        return lines
    members = group_members(layout, run.shard_names, [row.sample_id])[row.sample_id].members
    for member in members[:MAX_MEMBERS]:
        lines.append(
            f"    {member.sample_id}  {member.kind or member.verdict}, score {_number(member.score)}"
        )
    if len(members) > MAX_MEMBERS:
        lines.append(f"    and {len(members) - MAX_MEMBERS} more")
    return lines


def _near_lines(layout: RunLayout, run: RunRecord, row: VerdictRow) -> list[str]:
    """The sample's best pairs with samples of other groups."""
    pairs = pairs_of_sample(layout, row.sample_id)
    others = {_other(pair, row.sample_id): pair for pair in pairs}
    verdicts = find_verdicts(layout, run.shards, others)
    apart = [(i, p) for i, p in others.items() if i in verdicts and verdicts[i].group_id != row.group_id]
    if not apart:
        return ["  nearest others none in the pairs table"]
    lines = ["  nearest others (not in its group)"]
    for sample_id, pair in apart[:MAX_NEAR]:
        word = "verified" if pair.verified else "not verified"
        lines.append(
            f"    {sample_id}  {word}, score {_number(pair.score)}, cosine {_number(pair.cosine)}, PDQ "
            f"{_number(pair.pdq_distance)}, {pair.transform or 'no transform'}"
        )
    return lines


def _failure_lines(layout: RunLayout, run: RunRecord, row: VerdictRow) -> list[str]:
    shard = next(s for s in run.shards if s.name == row.shard)
    path = layout.of(shard).shard_failures(row.shard)
    found = [f for f in read_table(path).to_pylist() if f["subject"] == row.sample_id] if exists(path) else []
    return [f"  reason         {f['reason']} ({f['stage']}): {_line(f['detail'] or '')}" for f in found]


def _pair_lines(pair: PairRow) -> list[str]:
    distance = "unknown" if pair.pdq_distance is None else f"{pair.pdq_distance} of 256"
    word = "verified" if pair.verified else "not verified"
    shares = f"{_number(pair.coverage_a)} of a is in b, {_number(pair.coverage_b)} of b is in a"
    return [
        f"    {'kind':<15}{pair.kind}, {word}, score {_number(pair.score)}",
        f"    {'cosine':<15}{_number(pair.cosine)}",
        f"    {'PDQ distance':<15}{distance}",
        f"    {'transform':<15}{pair.transform or 'none'}",
        f"    {'coverage':<15}{shares}",
        f"    {'foreign share':<15}{_number(pair.foreign_a)} of a, {_number(pair.foreign_b)} of b",
    ]


def _uncompared_lines(layout: RunLayout, run: RunRecord, first: str, second: str) -> list[str]:
    features = find_features(layout, run.shards, [first, second], _PAIR_FACTS)
    a, b = features[first], features[second]
    failed = [f"{name} failed ({f['status']})" for name, f in (("a", a), ("b", b)) if f["status"] != OK]
    if failed:
        return [f"  never compared: {', '.join(failed)}"]
    if a["sha256"] == b["sha256"] or a["pixel_hash"] == b["pixel_hash"]:
        word = "bytes" if a["sha256"] == b["sha256"] else "pixels"
        return [
            f"  equal {word}: one exact class, joined through its first member, without a row of their own"
        ]
    return [
        "  no row in the pairs table: never compared, or under the margin. Now, from the features:",
        f"    {'cosine':<15}{_number(cosine(a['embedding'], b['embedding']))}",
        f"    {'PDQ distance':<15}{_distance_text(a, b)}",
        f"    {'blank':<15}{', '.join(n for n, f in (('a', a), ('b', b)) if f['blank']) or 'neither'}",
    ]


def cosine(a: Sequence[float] | None, b: Sequence[float] | None) -> float | None:
    """Cosine of two stored embeddings, in float64; None where the run has no model."""
    if not a or not b:
        return None
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / length if length else None


def hamming(a: bytes | None, b: bytes | None) -> int | None:
    """Differing bits of two hashes of one length; None where one is missing."""
    if not a or not b:
        return None
    return hamming_distance(a, b)


def _distance_text(a: dict[str, Any], b: dict[str, Any]) -> str:
    """PDQ distance of the whole pictures, with that of the mirror image or trimmed views where smaller."""
    whole = hamming(a["pdq"], b["pdq"])
    if whole is None:
        return "unknown"
    best = (whole, "")
    mirrored = hamming(a["pdq_mirrored"], b["pdq"])
    if mirrored is not None and mirrored < best[0]:
        best = (mirrored, "mirrored")
    hashes = [[f["pdq"], *(view["pdq"] for view in f["views"] or ())] for f in (a, b)]
    views = [d for x in hashes[0] for y in hashes[1] if (d := hamming(x, y)) is not None]
    if min(views) < best[0]:
        best = (min(views), "with borders trimmed")
    return f"{whole} of 256" + (f" ({best[0]} {best[1]})" if best[1] else "")


def _other(pair: PairRow, sample_id: str) -> str:
    return pair.sample_id_b if pair.sample_id_a == sample_id else pair.sample_id_a


def _number(value: float | int | None, digits: int = 3) -> str:
    if value is None:
        return "unknown"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _line(text: str, most: int = 120) -> str:
    """A text on one line, cut, without control characters."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
