"""A finished run as an index to hold pictures against: the search behind `Reference` and `onceseen serve`.

    from onceseen import Reference

    reference = Reference.open("run")
    for check in reference.check([open("answer.png", "rb").read()]):
        print(check.finding, check.match, check.reference)

Nothing here needs Beam; the index is memory-mapped (`store`), built once (`build`), searched (`search`).
"""

from onceseen.reference.build import IndexBuildError
from onceseen.reference.checks import Check, ReferencePicture
from onceseen.reference.reference import Reference
from onceseen.reference.search import SourceUnreachableError

__all__ = ["Check", "IndexBuildError", "Reference", "ReferencePicture", "SourceUnreachableError"]
