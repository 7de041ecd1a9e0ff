"""Representatives by direct evidence: a group is one representative class and the classes verified against *it*.

Connected components chain: a ~ b ~ c makes one component though a and c may share nothing. So a component is only the
place to look. Within it, classes are taken best first (`keep.order_key`); the best becomes a representative and takes
just the classes that have a verified edge to it in the right direction; then the best of the rest, and so on. Every
dropped sample thus names a pair that was compared, between its own class and its representative's.

This is a greedy (lexicographically first) dominating independent choice, the star grouping that keeps every removed
picture within one edge of a kept one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from onceseen.core.records import Crawls, crawl_of


@dataclass(frozen=True, slots=True)
class Edge:
    """A verified pair of exact classes, by their heads, seen from both sides.

    Attributes:
        a: Head of one class.
        b: Head of the other.
        kind: Kind of evidence.
        score: Calibrated score.
        a_droppable: Whether a may be dropped for b.
        b_droppable: Whether b may be dropped for a.
    """

    a: int
    b: int
    kind: str
    score: float
    a_droppable: bool
    b_droppable: bool


@dataclass(frozen=True, slots=True)
class Group:
    """One representative class and what it takes with it.

    Attributes:
        representative: Head of the representative class.
        taken: Head of each class taken, with the edge that shows it to be in the representative.
    """

    representative: int
    taken: tuple[tuple[int, Edge], ...]


def choose_groups(
    order: Sequence[int], edges: Sequence[Edge], pinned: frozenset[int] = frozenset(), crawls: Crawls = ()
) -> list[Group]:
    """Splits one component into groups of direct evidence.

    Args:
        order: Class heads of the component, best first, each once.
        edges: Verified edges among them.
        pinned: Classes that a person said to keep: they are representatives whatever is near them.
        crawls: Groups of an older crawl stand: its heads choose before any newer one.

    Returns:
        Groups in the order in which their representatives were chosen. O(classes + edges).
    """
    beside: dict[int, list[tuple[int, Edge]]] = {head: [] for head in order}
    for edge in edges:
        if edge.b_droppable:
            beside[edge.a].append((edge.b, edge))
        if edge.a_droppable:
            beside[edge.b].append((edge.a, edge))
    free = dict.fromkeys(order)
    groups: list[Group] = []
    for head in sorted(order, key=lambda h: (crawl_of(h, crawls), h not in pinned)):
        if head not in free:
            continue
        del free[head]
        taken = _strongest(beside[head], free, pinned)
        for other in taken:
            del free[other]
        groups.append(Group(head, tuple(taken.items())))
    return groups


def worth_a_look(
    order: Sequence[int], edges: Sequence[Edge], doubtful: Sequence[tuple[int, int]], *, patient: bool
) -> list[tuple[int, int]]:
    """Doubtful pairs whose answer decides something: those of a representative with a class that is still free.

    In a group of n copies only the n - 1 pairs with its representative are looked at, not all n (n - 1) / 2.

    Args:
        order: Class heads of the component, best first, each once.
        edges: Verified edges among them.
        doubtful: Pairs of heads whose answer would need another look.
        patient: Whether a class waits for the answer (which usually is yes) before it may become a representative
            itself. Impatience asks for every pair that can still matter, so nothing is left over.

    Returns:
        Pairs (a, b), a < b, ascending. Empty where the groups are settled.
    """
    beside: dict[int, set[int]] = {head: set() for head in order}
    maybe: dict[int, set[int]] = {head: set() for head in order}
    for edge in edges:
        if edge.b_droppable:
            beside[edge.a].add(edge.b)
        if edge.a_droppable:
            beside[edge.b].add(edge.a)
    for a, b in doubtful:
        maybe[a].add(b)
        maybe[b].add(a)
    free = set(order)
    asked: set[tuple[int, int]] = set()
    for head in order:
        if head not in free:
            continue
        free -= beside[head] | {head}
        open_questions = maybe[head] & free
        asked |= {(min(head, other), max(head, other)) for other in open_questions}
        if patient:
            free -= open_questions
    return sorted(asked)


def _strongest(
    reached: Sequence[tuple[int, Edge]], free: Mapping[int, None], pinned: frozenset[int]
) -> dict[int, Edge]:
    """The best edge to each free class, classes ascending."""
    best: dict[int, Edge] = {}
    for other, edge in reached:
        if other in free and other not in pinned and (other not in best or edge.score > best[other].score):
            best[other] = edge
    return dict(sorted(best.items()))
