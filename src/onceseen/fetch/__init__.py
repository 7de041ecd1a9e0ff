"""Fetch: a table of URLs and captions becomes shards, by img2dataset."""

from onceseen.fetch.download import FetchConfig, FetchSummary, fetch

__all__ = ["FetchConfig", "FetchSummary", "fetch"]
