"""Decoding and hashing: from encoded bytes to a `Fingerprint`, with nothing of Beam in it.

picture = decode_image(data, max_pixels)                  # Picture, or SampleError with its reason
fingerprint = fingerprint_image(data, picture, config)    # hashes, thumb, sharpness, trimmed view
"""

from onceseen.fingerprint.captions import caption_minhash, minhash_similarity
from onceseen.fingerprint.decode import ENCODED_AHEAD, Picture, decode_image, decoded_image
from onceseen.fingerprint.fingerprint import (
    TRIMMED,
    Fingerprint,
    View,
    fingerprint_image,
    view_pixels,
)
from onceseen.fingerprint.pdq import PdqHash, hamming_distance, hamming_matrix, pdq_hash
from onceseen.fingerprint.sharpness import effective_resolution

__all__ = [
    "ENCODED_AHEAD",
    "TRIMMED",
    "Fingerprint",
    "PdqHash",
    "Picture",
    "View",
    "caption_minhash",
    "decode_image",
    "decoded_image",
    "effective_resolution",
    "fingerprint_image",
    "hamming_distance",
    "hamming_matrix",
    "minhash_similarity",
    "pdq_hash",
    "view_pixels",
]
