"""Embeddings: pictures to unit vectors, by one interface for several models.

    load_embedder(config) -> embedder;  embedder.preprocess(rgb) -> input;  embed_padded(embedder, inputs, size)

`efficientnet-lite0` is bundled and runs anywhere; OpenCLIP, TorchScript and ONNX files are loaded on demand, and
torch only by those that need it. Features carry the `EmbedderSpec`, and only equal ones are compared.
"""

from onceseen.embed.batches import Embedded, embed_padded
from onceseen.embed.factory import check_device, describe_embedder, load_embedder
from onceseen.embed.pictures import Prepared, prepare_picture
from onceseen.embed.shared import SharedEmbedder, loaded_models
from onceseen.embed.spec import BadRowsError, DeviceError, Embedder, EmbedderSpec, InferenceError

__all__ = [
    "BadRowsError",
    "DeviceError",
    "Embedded",
    "Embedder",
    "EmbedderSpec",
    "InferenceError",
    "Prepared",
    "SharedEmbedder",
    "check_device",
    "describe_embedder",
    "embed_padded",
    "load_embedder",
    "loaded_models",
    "prepare_picture",
]
