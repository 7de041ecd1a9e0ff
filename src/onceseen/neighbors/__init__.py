"""Candidate pairs: exact classes, PDQ bands and embedding cells. Pure NumPy and FAISS; the wires are in `jobs`."""

from onceseen.neighbors.bands import band_positions, banding_recall, search_band
from onceseen.neighbors.cells import Cells, assign_coarse, encode, search_cell, train_cells
from onceseen.neighbors.classes import exact_classes
from onceseen.neighbors.device import require_faiss, search_device

__all__ = [
    "Cells",
    "assign_coarse",
    "band_positions",
    "banding_recall",
    "encode",
    "exact_classes",
    "require_faiss",
    "search_band",
    "search_cell",
    "search_device",
    "train_cells",
]
