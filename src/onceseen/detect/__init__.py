"""What a search of a finished run says of a query picture: duplicate, near or clear, and by which evidence."""

from onceseen.detect.findings import Finding, Match, best_match, exact_match, finding, is_duplicate

__all__ = ["Finding", "Match", "best_match", "exact_match", "finding", "is_duplicate"]
