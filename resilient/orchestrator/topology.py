"""The order of a plan's steps: who waits for whom, and where steps wait for each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from resilient.orchestrator.errors import CircularDependencyError
from resilient.orchestrator.model import RecoveryPlan


def cycles(steps: Iterable[str], needs: Mapping[str, Iterable[str]]) -> list[tuple[str, ...]]:
    """The ways round, each from a step over what it needs back to itself: `("a", "c", "b", "a")`.

    Of steps that are knotted together in many ways one shortest way is told, from the first of them; a step that needs
    itself is told on its own. Needs that are not among the steps are passed over. In the order of the steps.
    """
    order = {step: number for number, step in enumerate(dict.fromkeys(steps))}
    edges = {step: [one for one in dict.fromkeys(needs.get(step, ())) if one in order] for step in order}
    found: list[tuple[str, ...]] = [(step, step) for step in order if step in edges[step]]
    for knot in _knots(edges):
        found.append(_way_round(min(knot, key=order.__getitem__), edges, knot))
    return sorted(found, key=lambda way: (order[way[0]], len(way)))


def _knots(edges: Mapping[str, list[str]]) -> Iterator[frozenset[str]]:
    """Groups of two and more steps that all need each other (Tarjan's algorithm, without recursion)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_steps: dict[str, None] = {}
    for root in edges:
        if root in number:
            continue
        way = [(root, iter(edges[root]))]
        number[root] = lowest[root] = len(number)
        open_steps[root] = None
        while way:
            step, rest = way[-1]
            following = next((one for one in rest if one not in number or one in open_steps), None)
            if following is None:
                way.pop()
                yield from _closed(step, number, lowest, open_steps)
                if way:
                    lowest[way[-1][0]] = min(lowest[way[-1][0]], lowest[step])
            elif following in number:
                lowest[step] = min(lowest[step], number[following])
            else:
                number[following] = lowest[following] = len(number)
                open_steps[following] = None
                way.append((following, iter(edges[following])))


def _closed(
    step: str, number: dict[str, int], lowest: dict[str, int], open_steps: dict[str, None]
) -> Iterator[frozenset[str]]:
    """The group that ends with this step, if one does and has others in it."""
    if lowest[step] != number[step]:
        return
    group: list[str] = []
    while not group or group[-1] != step:
        group.append(open_steps.popitem()[0])
    if len(group) > 1:
        yield frozenset(group)


def _way_round(start: str, edges: Mapping[str, list[str]], knot: frozenset[str]) -> tuple[str, ...]:
    """A shortest way from a step back to itself over others."""
    before: dict[str, str] = {}
    waiting = deque([start])
    while start not in before:
        step = waiting.popleft()
        for one in edges[step]:
            if one in knot and one not in before and one != step:
                before[one] = step
                waiting.append(one)
    way = [start, before[start]]
    while way[-1] != start:
        way.append(before[way[-1]])
    return tuple(reversed(way))


def waves(plan: RecoveryPlan) -> list[list[str]]:
    """The step ids in groups, each in the order of the plan: a step is in the first group after all that it needs.

    Raises CircularDependencyError where steps wait for each other. Needs that are no steps are passed over.
    """
    order = {step.id: number for number, step in enumerate(plan.steps)}
    needs = {step: {one for one in plan.needs(step) if one in order} for step in order}
    followers: dict[str, list[str]] = {step: [] for step in order}
    for step, needed in needs.items():
        for one in needed:
            followers[one].append(step)
    groups, wave = [], [step for step in order if not needs[step]]
    left = {step: len(needed) for step, needed in needs.items()}
    while wave:
        groups.append(wave)
        ready = []
        for step in (follower for done in wave for follower in followers[done]):
            left[step] -= 1
            if not left[step]:
                ready.append(step)
        wave = sorted(ready, key=order.__getitem__)
    if any(left.values()):
        raise CircularDependencyError(cycles(order, needs)[0], heading=f"plan {plan.id!r} is invalid")
    return groups


def ancestors(plan: RecoveryPlan, step_id: str) -> frozenset[str]:
    """The ids of all steps that must be done before this one, directly or not."""
    return above(plan.dependencies, step_id)


def above(needs: Mapping[str, Iterable[str]], step_id: str) -> frozenset[str]:
    """What a step needs, and what that needs, and so on; the step itself only where it waits for itself."""
    found: set[str] = set()
    waiting = [step_id]
    while waiting:
        more = set(needs.get(waiting.pop(), ())) - found
        found |= more
        waiting += more
    return frozenset(found)
