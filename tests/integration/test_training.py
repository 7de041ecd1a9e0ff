"""A torch DataLoader over webdataset reads original and rewritten shards of a run, with counts as weights."""

from __future__ import annotations

import io
import json
import multiprocessing
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import webdataset as wds
from torch.utils.data import DataLoader, WeightedRandomSampler

from onceseen.core.schemas import VERDICTS
from onceseen.training import (
    accepted_by_weight,
    deduplicated,
    kept,
    sample_copies,
    sample_weight,
    weights,
)

SHARDS, PICTURES = 4, 6
# Copies of the pictures of each shard; all but the first copy lie in the same shard.
COPIES = (5, 1, 2, 1, 1, 1)
ALPHA = 0.5


def _jpeg(level: int) -> bytes:
    picture = np.full((8, 8, 3), level, np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def _verdicts(shard: str) -> list[dict[str, Any]]:
    rows = []
    for picture, copies in enumerate(COPIES):
        for copy in range(copies):
            row = dict.fromkeys(VERDICTS.names)
            key = f"{shard}{picture}{copy}"
            row |= {"sample_id": f"{shard}/{key}", "shard": shard, "key": key, "copies": copies}
            row |= {"component_size": copies, "verdict": "drop" if copy else "keep"}
            row["weight"] = 0.0 if copy else copies ** (1 - ALPHA)
            rows.append(row)
    return rows


def _write_tar(path: Path, rows: list[dict[str, Any]], *, rewritten: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for row in rows:
            picture = int(row["key"][-2])
            members = {
                "jpg": _jpeg(40 * picture),
                "txt": f"picture {picture}".encode(),
                "json": b'{"status": "success"}',
            }
            if rewritten:
                names = ("sample_id", "copies", "component_size", "weight", "verdict")
                members["onceseen.json"] = json.dumps({name: row[name] for name in names}).encode()
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{row['key']}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("training")
    for number in range(SHARDS):
        shard = f"{number:05d}"
        rows = _verdicts(shard)
        _write_tar(root / "source" / f"{shard}.tar", rows, rewritten=False)
        _write_tar(
            root / "run" / "shards" / f"{shard}.tar",
            [r for r in rows if r["verdict"] == "keep"],
            rewritten=True,
        )
        verdicts = root / "run" / "verdicts" / f"{shard}.parquet"
        verdicts.parent.mkdir(exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=VERDICTS), verdicts)
    (root / "run" / "run.json").write_text(
        json.dumps({"config": {"keep": {"alpha": ALPHA}}}), encoding="utf-8"
    )
    return root


def _urls(directory: Path) -> list[str]:
    return [str(path) for path in sorted(directory.glob("*.tar"))]


def _dataset(directory: Path) -> wds.WebDataset:
    return wds.WebDataset(_urls(directory), shardshuffle=False)


def _key(sample: dict[str, Any]) -> str:
    return str(sample["__key__"])


def _as_tensors(sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Mean colour, the picture's number, the weight."""
    colour = torch.from_numpy(np.asarray(sample["jpg"], np.float32)).mean() / 255
    number = torch.tensor(float(sample["txt"].split()[1]))
    return colour.reshape(1), number.reshape(1), torch.tensor([sample_weight(sample)])


def _loader(dataset: Any, context: str | None = None) -> DataLoader[Any]:
    return DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=context)


def test_rewritten_shards_carry_their_counts(run: Path) -> None:
    dataset = _dataset(run / "run" / "shards").decode("rgb8").map(sample_copies)
    assert Counter(_loader(dataset)) == Counter(COPIES * SHARDS)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_leave_out_what_was_dropped(run: Path, context: str) -> None:
    assert context in multiprocessing.get_all_start_methods()
    dataset = _dataset(run / "source").select(kept(str(run / "run"))).map(_key)
    keys = sorted(_loader(dataset, context))
    assert keys == sorted(
        row["key"] for n in range(SHARDS) for row in _verdicts(f"{n:05d}") if row["verdict"] == "keep"
    )


def test_original_and_rewritten_shards_give_the_same_training_data(run: Path) -> None:
    def data(dataset: Any) -> Iterator[tuple[float, float, float]]:
        for values in _loader(dataset.decode("rgb8").map(_as_tensors)):
            yield tuple(float(v) for v in values)

    original = deduplicated(_dataset(run / "source"), str(run / "run"))
    assert sorted(data(original)) == sorted(data(_dataset(run / "run" / "shards")))


def test_a_model_trains_on_weighted_samples(run: Path) -> None:
    """One epoch of gradient descent with the weights in the loss ends where weighted least squares does."""
    dataset = (
        _dataset(run / "run" / "shards").decode("rgb8").map(_as_tensors).batched(len(COPIES), partial=False)
    )
    batches = list(_loader(dataset))
    x, y, w = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert len(x) == SHARDS * PICTURES
    assert w.sum().item() == pytest.approx(SHARDS * sum(c ** (1 - ALPHA) for c in COPIES), rel=1e-5)

    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = (w * (model(x) - y) ** 2).sum() / w.sum()
        value.backward()
        return value

    before = loss().item()
    optimizer.step(loss)
    after = loss().item()
    design = torch.cat([x, torch.ones_like(x)], dim=1).double()
    root = w.double().sqrt()
    solved = torch.linalg.lstsq(root * design, root * y.double()).solution.flatten()
    assert after < 0.01 * before
    assert [model.weight.item(), model.bias.item()] == pytest.approx(solved.tolist(), rel=1e-2, abs=1e-2)


def test_counts_drive_a_weighted_sampler(run: Path) -> None:
    """Sampling by the number of copies gives the pictures back in the shares that the source has."""
    pictures = [
        (sample["txt"], sample_copies(sample)) for sample in _dataset(run / "run" / "shards").decode("rgb8")
    ]
    draws = 20_000
    sampler = WeightedRandomSampler(
        [c for _, c in pictures], draws, generator=torch.Generator().manual_seed(0)
    )
    seen = Counter(pictures[i][0] for i in sampler)
    for number, copies in enumerate(COPIES):
        share = copies / sum(COPIES)
        assert abs(seen[f"picture {number}"] - draws * share) < 5 * (draws * share * (1 - share)) ** 0.5


def test_rejection_by_weight_is_the_same_with_any_number_of_workers(run: Path) -> None:
    weight_of = weights(str(run / "run"), alpha=0.0)
    dataset = (
        _dataset(run / "source").select(accepted_by_weight(weight_of, float(max(COPIES)), seed=3)).map(_key)
    )
    alone = sorted(DataLoader(dataset, batch_size=None, num_workers=0))
    assert alone == sorted(_loader(dataset))
    always = [
        row["key"]
        for n in range(SHARDS)
        for row in _verdicts(f"{n:05d}")
        if row["weight"] == max(COPIES) ** ALPHA
    ]
    assert set(always) <= set(alone)
    assert len(alone) < SHARDS * PICTURES
