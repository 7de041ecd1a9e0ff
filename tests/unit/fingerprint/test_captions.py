"""Caption MinHash."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys

import numpy as np
import pytest
from datasketch import MinHash

from onceseen.fingerprint import caption_minhash, minhash_similarity
from onceseen.fingerprint.captions import _normalise, _shingles

CAPTION = "A lighthouse on the cliffs above a stormy sea, stock photo"


def test_is_datasketch_minhash() -> None:
    options = {"scheme": "legacy"} if "scheme" in inspect.signature(MinHash).parameters else {}
    sketch = MinHash(num_perm=64, seed=1, **options)
    for shingle in _shingles(_normalise(CAPTION)):
        sketch.update(shingle)
    assert caption_minhash(CAPTION, 64) == np.asarray(sketch.hashvalues).astype("<u4").tobytes()


def test_normal_forms_are_equal() -> None:
    same = [
        "  a LIGHTHOUSE on the\tcliffs above a stormy sea, stock photo\n",
        CAPTION.replace("A", "\uff21", 1),
    ]
    assert {caption_minhash(text, 32) for text in same} == {caption_minhash(CAPTION, 32)}


def test_similarity_estimates_jaccard() -> None:
    other = CAPTION.replace("stormy", "calm")
    a, b = _shingles(_normalise(CAPTION)), _shingles(_normalise(other))
    estimate = minhash_similarity(caption_minhash(CAPTION, 256), caption_minhash(other, 256))
    assert abs(estimate - len(a & b) / len(a | b)) < 0.12
    assert (
        minhash_similarity(caption_minhash(CAPTION, 256), caption_minhash("two dogs in the snow", 256)) < 0.15
    )


def test_empty_captions_have_no_hash() -> None:
    assert caption_minhash("", 32) == caption_minhash(" \n", 32) == b""
    assert minhash_similarity(b"", b"") == minhash_similarity(b"", caption_minhash("a", 8)) == 0.0


def test_any_text_has_a_hash() -> None:
    for text in ("a", "海", "\udcff lone surrogate", "x" * 100_000):
        assert len(caption_minhash(text, 32)) == 128


def test_other_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="minhash_permutations"):
        minhash_similarity(caption_minhash("a", 8), caption_minhash("a", 16))


def test_does_not_depend_on_the_hash_seed_of_the_process() -> None:
    code = f"from onceseen.fingerprint import caption_minhash; print(caption_minhash({CAPTION!r}, 32).hex())"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert outputs == {caption_minhash(CAPTION, 32).hex() + "\n"}
