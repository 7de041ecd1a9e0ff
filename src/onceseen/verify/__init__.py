"""Is a candidate pair really the same picture, which contains which, and how sure are we.

`judge` looks at stored features alone (thumbs, PDQ, embeddings); `judge_pixels` reads the pictures of a doubtful pair
again. Both align the pictures first and compare what is left tile by tile; a pair is verified only where pixels agree
after alignment and a second signal (PDQ, embedding or local features) agrees as well.
"""

from onceseen.verify.calibration import Calibration, load_calibration
from onceseen.verify.pixels import judge_pixels
from onceseen.verify.sides import Judgement, Region, Side
from onceseen.verify.thumbs import judge

__all__ = ["Calibration", "Judgement", "Region", "Side", "judge", "judge_pixels", "load_calibration"]
