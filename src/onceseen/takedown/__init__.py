"""Every copy of a picture in the training set of a finished run, and the set again without them.

    found = find_copies(layout, run, ["00000/000000012"])    # Copies: what goes with the picture, what lies apart
    apply_takedown(layout, found.taken, date="2026-01-31", why="asked for by its author")

A copy is what the run itself verified: equal bytes or pixels, a verified pair with the picture, or its group. What is
in the component for another reason (a neighbour's neighbour, a tile of a collage) is another picture and lies apart.
"""

from onceseen.takedown.applying import TakedownResult, apply_takedown
from onceseen.takedown.copies import Copies, Copy, Relation, find_copies

__all__ = ["Copies", "Copy", "Relation", "TakedownResult", "apply_takedown", "find_copies"]
