"""Arrow schemas of the tables in a run directory: the contract with other programs.

Column order is part of the contract. Additions go to the end and raise `SCHEMA_VERSION`.
"""

from __future__ import annotations

import pyarrow as pa

SCHEMA_VERSION = 1
THUMB_SIDE = 64
OK = "ok"

VIEW = pa.struct(
    [
        ("name", pa.string()),  # trimmed
        ("box", pa.list_(pa.float32(), 4)),  # x0, y0, x1, y1 as shares of width and height
        ("pdq", pa.binary(32)),
        ("pdq_mirrored", pa.binary(32)),
        ("pdq_quality", pa.int16()),
    ]
)

_FEATURES = [
    ("sample_id", pa.string()),
    ("shard", pa.string()),
    ("key", pa.string()),
    ("row", pa.int32()),
    ("status", pa.string()),  # ok, or the reason of the failure
    ("member", pa.string()),
    ("member_offset", pa.int64()),
    ("member_size", pa.int64()),
    ("format", pa.string()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("num_bytes", pa.int64()),
    ("sha256", pa.binary(32)),
    ("pixel_hash", pa.binary(16)),
    ("pdq", pa.binary(32)),
    ("pdq_mirrored", pa.binary(32)),
    ("pdq_quality", pa.int16()),
    ("sharpness", pa.float32()),  # effective resolution: pixels of real detail along the diagonal
    ("blank", pa.bool_()),
    ("caption", pa.string()),
    ("caption_minhash", pa.binary()),
    ("meta", pa.string()),
    ("views", pa.list_(VIEW)),
]


def features_schema(dimensions: int) -> pa.Schema:
    """Schema of features/<shard>.parquet.

    `embedding` is the whole picture's (zeros where the sample failed), `view_embeddings` those of `views`,
    concatenated in order; both unit L2.

    Args:
        dimensions: d of the embeddings; 0 with `embed.model: none` (the columns are then null).
    """
    vector = pa.list_(pa.float16(), dimensions) if dimensions else pa.list_(pa.float16())
    return pa.schema([*_FEATURES, ("embedding", vector), ("view_embeddings", pa.list_(pa.float16()))])


THUMBS = pa.schema(
    [
        ("sample_id", pa.string()),
        (
            "thumb",
            pa.binary(THUMB_SIDE * THUMB_SIDE),
        ),  # grey, row-major, the whole picture squeezed to a square
        ("trimmed", pa.binary()),  # the same of the trimmed view, empty if there is none
    ]
)

PAIRS = pa.schema(
    [
        ("sample_id_a", pa.string()),
        ("sample_id_b", pa.string()),
        ("kind", pa.string()),
        ("cosine", pa.float32()),
        ("pdq_distance", pa.int16()),
        ("score", pa.float32()),
        ("verified", pa.bool_()),
        ("coverage_a", pa.float32()),
        ("coverage_b", pa.float32()),
        ("transform", pa.string()),
        # after the contract's columns: what clustering needs, so that edges are read without a join
        ("node_a", pa.int64()),
        ("node_b", pa.int64()),
        ("foreign_a", pa.float32()),  # share of a that is not in b: borders, overlays, other content
        ("foreign_b", pa.float32()),
    ]
)

VERDICTS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("verdict", pa.string()),
        ("representative_id", pa.string()),
        ("evidence_a", pa.string()),
        ("evidence_b", pa.string()),
        ("kind", pa.string()),
        ("score", pa.float32()),
        ("copies", pa.int32()),
        ("component_id", pa.string()),
        ("component_size", pa.int32()),
        ("weight", pa.float32()),
        ("row", pa.int32()),
    ]
)

FINDINGS = pa.schema(
    [
        ("query_id", pa.string()),
        ("verdict", pa.string()),  # duplicate, near, clear or failed
        ("reference_id", pa.string()),  # the best match; null where clear
        ("representative_id", pa.string()),  # the kept picture that stands for it in the reference
        ("copies", pa.int32()),  # how many pictures of the reference that one stands for
        ("kind", pa.string()),
        ("cosine", pa.float32()),
        ("pdq_distance", pa.int16()),
        ("score", pa.float32()),
        ("coverage_query", pa.float32()),
        ("coverage_reference", pa.float32()),
        ("transform", pa.string()),
        ("reference_verdict", pa.string()),  # keep or drop
        ("component_id", pa.string()),
        ("component_size", pa.int32()),
        ("shard", pa.string()),
        ("key", pa.string()),
        ("row", pa.int32()),
    ]
)

AUDIT_PROMPTS = pa.schema(
    [
        ("prompt_id", pa.string()),  # 16 hex digits: the hash of the normalised prompt
        ("prompt", pa.string()),  # as the first generation has it
        ("verdict", pa.string()),  # memorised, collapsed, template, varied or too_few
        ("generations", pa.int32()),  # those that could be read, excluded ones included
        ("excluded", pa.int32()),  # blank
        ("resized", pa.int32()),  # of another size than the others
        ("clique", pa.int32()),  # largest clique of the graph that decides
        ("clique_exact", pa.bool_()),
        ("clique_bound", pa.int32()),  # no clique is larger
        ("clique_pixels", pa.int32()),
        ("clique_embedding", pa.int32()),
        ("component_size", pa.int32()),
        ("mean_distance", pa.float32()),  # of two members of the clique
        ("representative_id", pa.string()),  # the clique's medoid
        ("reference_id", pa.string()),  # the training picture that it shows, else the nearest: see matched_by
        ("reference_component", pa.string()),
        ("reference_group", pa.string()),  # the kept picture that stands for that one
        ("matched_by", pa.string()),  # pixels, detector, both, template; empty if not matched
        ("distance", pa.float32()),  # tiled, of the representative to its nearest training picture
        ("second_distance", pa.float32()),  # to the nearest of another component
        ("ratio", pa.float32()),
        ("l2", pa.float32()),
        ("paper_match", pa.bool_()),  # l2 <= .15
        ("matched", pa.int32()),  # generations that show a training picture
        ("template_tiles", pa.int32()),
        ("copies", pa.int32()),  # of the most copied training picture with this caption; 0: there is none
        ("occurrences", pa.int32()),  # training samples with this caption
        ("nearest_distance", pa.float32()),  # smallest of all its generations
    ]
)

AUDIT_GENERATIONS = pa.schema(
    [
        ("sample_id", pa.string()),
        ("prompt_id", pa.string()),  # null: it has no prompt, and was not judged
        ("seed", pa.string()),
        ("excluded", pa.bool_()),
        ("in_clique", pa.bool_()),
        ("reference_id", pa.string()),  # nearest training picture by pixels, matching or not
        ("distance", pa.float32()),
        ("second_distance", pa.float32()),
        ("ratio", pa.float32()),
        ("l2", pa.float32()),
        ("matched", pa.bool_()),
        ("matched_by", pa.string()),
        ("detector", pa.string()),  # duplicate, near or clear
        ("detector_reference_id", pa.string()),
    ]
)

FAILURES = pa.schema(
    [
        ("subject", pa.string()),  # sample_id, or the shard's name
        ("shard", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)

COPIES = pa.schema(
    [
        ("sample_id", pa.string()),
        ("copies", pa.int32()),
        ("component_size", pa.int32()),
        ("distinct_captions", pa.int32()),
        ("url_domains", pa.int32()),
        ("caption", pa.string()),
    ]
)

CAPTIONS = pa.schema(
    [
        ("caption", pa.string()),
        ("occurrences", pa.int32()),  # near-identical captions, this one included
        ("pictures", pa.int32()),  # distinct kept pictures among them
        ("max_copies", pa.int32()),  # most copies of one of their pictures
        ("sample_id", pa.string()),  # the kept picture with the most copies
    ]
)
