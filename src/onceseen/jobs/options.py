"""Beam's options, each class of them parsed once: Beam asks for one at every step of a graph."""

from __future__ import annotations

from typing import Any, TypeVar

from apache_beam.options.pipeline_options import PipelineOptions

_View = TypeVar("_View", bound=PipelineOptions)


class ParsedOptions(PipelineOptions):
    """Options whose views are made once a class.

    Views of a class are alike anyway: what they hold is shared (`PipelineOptions.view_as`). Parsing the same
    flags hundreds of times took an eighth of a run of two small shards.
    """

    def view_as(self, cls: type[_View]) -> _View:
        """These options as a class of them."""
        views: dict[type[PipelineOptions], Any] = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        view: _View = views[cls]
        return view

    def __getstate__(self) -> dict[str, Any]:
        """Without the views: a copy makes its own, on its own values."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_views"}
