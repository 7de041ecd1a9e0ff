"""Components, representatives by direct evidence, keep order and verdicts. Pure; the wires are in `jobs`."""

from onceseen.clusters.keep import Candidate, group_weight, order_key
from onceseen.clusters.representatives import Edge, Group, choose_groups, worth_a_look
from onceseen.clusters.union_find import TooManyParticipantsError, connected_components
from onceseen.clusters.verdicts import SampleVerdict, classes_best_first, component_verdicts

__all__ = [
    "Candidate",
    "Edge",
    "Group",
    "SampleVerdict",
    "TooManyParticipantsError",
    "choose_groups",
    "classes_best_first",
    "component_verdicts",
    "connected_components",
    "group_weight",
    "order_key",
    "worth_a_look",
]
