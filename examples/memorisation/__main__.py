"""Does a diffusion model give back fewer training pictures when it is trained on Onceseen's output?

    python -m examples.memorisation --short     # 24 pictures at 1 and 32 copies: about two minutes
    python -m examples.memorisation             # the whole experiment: 17 models, three hours and more on two cores

A killed run is resumed by the same command. Results, tables and figures are written to OUTPUT/results.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

_PHOTOS = Path(__file__).resolve().parent.parent / "photos"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what is not done, judges, and writes results.

    Returns:
        0; 2 where something is missing.
    """
    arguments = _parser().parse_args(argv)
    try:
        from . import figures, results, work
    except ImportError as error:
        print(f"{error}. Install: pip install -e '.[cpu,diffusers,memorisation]'", file=sys.stderr)
        return 2
    size = work.SHORT if arguments.short else work.Size()
    output = arguments.output / "short" if arguments.short else arguments.output
    tasks = tuple(task for task in work.tasks_of(size) if fnmatch(task.name, arguments.only))
    if not arguments.judge_only:
        work.run_all(tasks, size, arguments.photos, output, arguments.jobs)
    asked = results.ToJudge(
        tuple(work.tasks_of(size)),
        size,
        arguments.photos,
        output,
        arguments.sscd,
        tuple(arguments.audit),
        tuple(arguments.merge),
    )
    found = results.write_results(asked)
    figures.draw(found, output / "results")
    print(json.dumps(found.summary["matched"]["differences"], indent=1))
    print(f"results: {output / 'results'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.memorisation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--short", action="store_true", help="the short form, which the tests run")
    parser.add_argument(
        "--output", type=Path, default=Path("build/memorisation"), help="default: %(default)s"
    )
    parser.add_argument("--photos", type=Path, default=_PHOTOS, help="photographs with LICENSES.csv")
    parser.add_argument(
        "--jobs", type=int, default=2, help="models at a time, one core each (default: %(default)s)"
    )
    parser.add_argument(
        "--only", default="*", metavar="PATTERN", help="models to train, such as main-[01]-* (seeds 0, 1)"
    )
    parser.add_argument("--judge-only", action="store_true", help="judge what is finished, train nothing")
    parser.add_argument(
        "--sscd", metavar="FILE", default="", help="TorchScript or ONNX file of SSCD: the second judge"
    )
    parser.add_argument(
        "--audit",
        type=int,
        nargs="*",
        default=[],
        metavar="SEED",
        help="seeds that onceseen audit judges too",
    )
    parser.add_argument(
        "--merge",
        type=Path,
        nargs="*",
        default=[],
        metavar="CSV",
        help="pictures.csv of other machines, to be added",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
