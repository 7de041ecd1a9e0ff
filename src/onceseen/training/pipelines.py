"""Predicates and functions for WebDataset pipelines: leave out what a run dropped, weigh what it kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from onceseen.training.tables import FAILED, KEEP, MEMBER, Sample, VerdictTables, run_alpha, sample_facts


class _Pipeline(Protocol):
    """What ``deduplicated`` needs of a WebDataset pipeline."""

    def select(self, predicate: Callable[[Any], bool], /) -> Any:  # noqa: ANN401 - webdataset is not typed
        """Keep the samples for which the predicate holds."""

    def map(self, function: Callable[[Any], Any], /) -> Any:  # noqa: ANN401 - webdataset is not typed
        """Replace each sample."""


_P = TypeVar("_P", bound=_Pipeline)


@dataclass(frozen=True, slots=True)
class _Kept:
    """Predicate of ``kept``."""

    tables: VerdictTables
    failed: bool

    def __call__(self, sample: Sample) -> bool:
        """Whether the sample stays."""
        verdict = self.tables.lookup(sample).verdict
        return verdict == KEEP or (self.failed and verdict == FAILED)


@dataclass(frozen=True, slots=True)
class _WithFacts:
    """Adds the run's facts to a sample, under the name that rewritten shards use."""

    tables: VerdictTables

    def __call__(self, sample: Sample) -> dict[str, Any]:
        """Return a copy of the sample with the member ``onceseen.json``."""
        return {**sample, MEMBER: json.dumps(asdict(self.tables.lookup(sample)), sort_keys=True).encode()}


@dataclass(frozen=True, slots=True)
class _Weights:
    """Function of ``weights``."""

    tables: VerdictTables
    exponent: float  # run's alpha - wanted alpha

    def __call__(self, sample: Sample) -> float:
        """Return the sample's weight."""
        facts = self.tables.lookup(sample)
        factor: float = float(max(facts.copies, 1)) ** self.exponent
        return facts.weight * factor


@dataclass(frozen=True, slots=True)
class _AcceptedByWeight:
    """Predicate of ``accepted_by_weight``."""

    weight_of: Callable[[Sample], float]
    largest: float
    seed: int
    epoch: int

    def __call__(self, sample: Sample) -> bool:
        """Whether the sample stays."""
        weight = self.weight_of(sample)
        if not 0 <= weight <= self.largest * (1 + 1e-6):
            raise ValueError(
                f"sample {sample['__key__']!r} of {sample['__url__']} weighs {weight}, expected 0 to "
                f"{self.largest}: give the largest weight of all as `largest` (see largest_weight)"
            )
        name = f"{self.seed}/{self.epoch}/{self._sample_id(sample)}".encode("utf-8", "surrogateescape")
        drawn = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big") / 2**64
        return drawn < weight / self.largest

    def _sample_id(self, sample: Sample) -> str:
        """The id from the run's tables where the weight comes from there, else from the member."""
        if isinstance(self.weight_of, _Weights):
            return self.weight_of.tables.lookup(sample).sample_id
        return sample_facts(sample).sample_id


def kept(run_dir: str, *, source: str | None = None, failed: bool = True) -> Callable[[Sample], bool]:
    """Return a predicate for ``pipeline.select`` on the original shards: is this sample kept?

    Args:
        run_dir: Directory of a finished run.
        source: SRC of that run, if the names of the shards don't tell (see ``VerdictTables``).
        failed: Whether samples stay that could not be judged, as the rewrite does by default.

    Returns:
        A picklable predicate. It raises ValueError for a sample that the run does not know.
    """
    return _Kept(VerdictTables(run_dir, source), failed)


def deduplicated(pipeline: _P, run_dir: str, *, source: str | None = None, failed: bool = True) -> _P:
    """Leave out of a pipeline over the original shards what the run dropped.

    What stays carries the member ``onceseen.json``, so that ``sample_weight`` works as it does on rewritten
    shards.

    Args:
        pipeline: A pipeline of samples with ``__key__`` and ``__url__``, such as
            ``webdataset.WebDataset(urls)``; before ``decode``, since dropped samples are then never decoded.
        run_dir: Directory of a finished run.
        source: SRC of that run, if the names of the shards don't tell (see ``VerdictTables``).
        failed: Whether samples stay that could not be judged.

    Returns:
        The longer pipeline.
    """
    tables = VerdictTables(run_dir, source)
    longer: _P = pipeline.select(_Kept(tables, failed)).map(_WithFacts(tables))
    return longer


def weights(
    run_dir: str, *, alpha: float | None = None, source: str | None = None
) -> Callable[[Sample], float]:
    """Return a function from samples of the original shards to their weights; what is not kept weighs 0.

    Args:
        run_dir: Directory of a finished run.
        alpha: Another alpha than the run's, in [0, 1]: a group's kept samples weigh copies^(1-alpha)
            together, so 1 counts each picture once and 0 as often as it occurred. None takes the weights as
            they are.
        source: SRC of that run, if the names of the shards don't tell (see ``VerdictTables``).

    Returns:
        A picklable function.

    Raises:
        ValueError: ``alpha`` is outside [0, 1], or RUN/run.json does not name the run's own.
    """
    exponent = 0.0
    if alpha is not None:
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number in [0, 1]")
        exponent = run_alpha(run_dir) - alpha
    return _Weights(VerdictTables(run_dir, source), exponent)


def sample_weight(sample: Sample) -> float:
    """Return a sample's weight from its member ``onceseen.json``; see ``sample_facts`` for errors."""
    return sample_facts(sample).weight


def sample_copies(sample: Sample) -> int:
    """Return how many pictures a sample stands for; from the same member, with the same errors."""
    return sample_facts(sample).copies


def accepted_by_weight(
    weight_of: Callable[[Sample], float], largest: float, *, seed: int = 0, epoch: int = 0
) -> Callable[[Sample], bool]:
    """Return a predicate that keeps each sample with probability weight / largest.

    The draw is a hash of seed, epoch and the sample's id, so it is the same on every machine and worker and
    in every order. Samples that weigh ``largest`` always stay.

    Args:
        weight_of: The function that ``weights`` returns; or ``sample_weight``, or any other function, for
            samples that carry the member ``onceseen.json``.
        largest: The largest weight of all, over 0; see ``largest_weight``.
        seed: Another seed draws other samples.
        epoch: Another epoch draws other samples; over many epochs each is seen in proportion to its weight.

    Returns:
        A predicate for ``pipeline.select``, picklable if ``weight_of`` is. It raises ValueError for a weight
        over ``largest``.

    Raises:
        ValueError: ``largest`` is not over 0.
    """
    if not largest > 0:
        raise ValueError(f"largest is {largest}, expected a weight over 0")
    return _AcceptedByWeight(weight_of, float(largest), seed, epoch)
