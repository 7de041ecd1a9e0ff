"""Paths inside a run directory: one function a file, so that no other module spells them out."""

from __future__ import annotations

from dataclasses import dataclass

from onceseen.core.files import beside, join, plain_path
from onceseen.core.records import Shard


@dataclass(frozen=True, slots=True)
class RunLayout:
    """Where things are in RUN (design.md, 'Run directory')."""

    root: str

    @classmethod
    def at(cls, path: str) -> RunLayout:
        """A run directory as a user names it: with or without a closing slash, or as a file:// URL."""
        return cls(plain_path(path).rstrip("/") or "/")

    def of(self, shard: Shard) -> RunLayout:
        """The run that holds a shard's features: this one, or that of an older crawl (`Shard.run`)."""
        return RunLayout(beside(self.root, shard.run)) if shard.run else self

    def path(self, name: str) -> str:
        """A file or directory by its name in RUN."""
        return join(self.root, name)

    def run_json(self) -> str:
        """Resolved config, versions, model, input listing, state of each job."""
        return join(self.root, "run.json")

    def timings_json(self) -> str:
        """Timings and rates: not compared between runs."""
        return join(self.root, "timings.json")

    def lock(self) -> str:
        """Held while a command works on the run."""
        return join(self.root, ".lock")

    def features(self, shard: str) -> str:
        """Features of one shard."""
        return join(self.root, "features", f"{shard}.parquet")

    def thumbs(self, shard: str) -> str:
        """Thumbs of one shard."""
        return join(self.root, "thumbs", f"{shard}.parquet")

    def extract_summary(self, shard: str) -> str:
        """Done mark and counts of one shard's extraction."""
        return join(self.extract_marks_dir(), f"{shard}.json")

    def extract_marks_dir(self) -> str:
        """Done marks of the extraction."""
        return join(self.root, ".state", "extract")

    def shard_failures(self, shard: str) -> str:
        """Dead letters of one shard."""
        return join(self.root, "failures", f"{shard}.parquet")

    def pairs_dir(self) -> str:
        """Directory of pairs."""
        return join(self.root, "pairs")

    def pairs(self, number: int) -> str:
        """Pairs whose larger node is in one shard, by its number."""
        return join(self.pairs_dir(), f"part-{number:06d}.parquet")

    def work_dir(self) -> str:
        """Intermediate files of the match job; removed when it is done."""
        return join(self.root, ".state", "match")

    def verdicts(self, shard: str) -> str:
        """Verdicts of one shard."""
        return join(self.root, "verdicts", f"{shard}.parquet")

    def findings(self, number: int) -> str:
        """Findings of one query shard of a scan, by its number."""
        return join(self.root, "findings", f"part-{number:06d}.parquet")

    def flagged(self) -> str:
        """All findings of a scan."""
        return join(self.root, "flagged.parquet")

    def audit_scan(self) -> RunLayout:
        """An audit's scan of the generations."""
        return RunLayout(join(self.root, "scan"))

    def audit_held_out(self) -> RunLayout:
        """An audit's scan of the held-out pictures; absent without any."""
        return RunLayout(join(self.root, "held-out"))

    def audit_prompts(self) -> str:
        """What an audit says of each prompt."""
        return join(self.root, "prompts.parquet")

    def audit_generations(self) -> str:
        """What an audit says of each generation."""
        return join(self.root, "generations.parquet")

    def audit_thresholds(self) -> str:
        """The thresholds that an audit went by, and where they come from."""
        return join(self.root, "thresholds.json")

    def index_dir(self) -> str:
        """Indexes that `Reference` and `serve` search; built on first use."""
        return join(self.root, "index")

    def shards_dir(self) -> str:
        """The deduplicated set."""
        return join(self.root, "shards")

    def rewrite_mark(self, shard: str) -> str:
        """Done mark and counts of one rewritten shard."""
        return join(self.rewrite_marks_dir(), f"{shard}.json")

    def rewrite_marks_dir(self) -> str:
        """Done marks of the rewrite."""
        return join(self.root, ".state", "rewrite")

    def takedowns(self) -> str:
        """The ledger of what was taken down; it stays where a run is started again."""
        return join(self.root, "takedowns.csv")

    def decisions(self) -> str:
        """The decisions that the verdicts follow, as `--decisions` takes them; absent where there were none."""
        return join(self.root, "decisions.csv")

    def everything(self, kind: str = "") -> list[str]:
        """All that a run writes, for starting again; other files in the directory are left alone.

        Args:
            kind: `scan` or `audit`; else a run.
        """
        names = ["features", "thumbs", "pairs", "verdicts", "failures", "shards", "stats", "index", ".state"]
        if kind == "scan":
            names += ["findings", "flagged.parquet", "summary.json", "delete_list.csv"]
        if kind == "audit":
            names = ["scan", "held-out", ".state", "summary.json", "delete_list.csv"]
            names += ["prompts.parquet", "generations.parquet", "thresholds.json"]
        return [
            self.run_json(),
            self.timings_json(),
            self.centroids(),
            self.report(),
            self.decisions(),
            *(self.path(name) for name in names),
        ]

    def stats(self, name: str) -> str:
        """A file of stats/."""
        return join(self.root, "stats", name)

    def report(self) -> str:
        """The report."""
        return join(self.root, "report.html")

    def match_facts(self) -> str:
        """What the match job measured of itself."""
        return join(self.root, ".state", "match.json")

    def centroids(self) -> str:
        """Cells of this run (.npz), reusable by another through `cells.centroids`."""
        return join(self.root, "centroids.npz")
