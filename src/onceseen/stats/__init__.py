"""What a finished run says of itself: reconciled counts, tables, report.

`ShardStatistics` is associative, so a Beam CombineFn can add it up; `summarise` does the same on one machine.
"""

from onceseen.stats.captions import write_captions_table
from onceseen.stats.prompts import PromptBin, PromptSummary, describe_bins, write_prompts
from onceseen.stats.report import write_report
from onceseen.stats.statistics import (
    ReconciliationError,
    ShardStatistics,
    ShardTally,
    summarise,
    write_summary,
)
from onceseen.stats.tables import write_copies_table, write_delete_list

__all__ = [
    "PromptBin",
    "PromptSummary",
    "ReconciliationError",
    "ShardStatistics",
    "ShardTally",
    "describe_bins",
    "summarise",
    "write_captions_table",
    "write_copies_table",
    "write_delete_list",
    "write_prompts",
    "write_report",
    "write_summary",
]
