"""Steps in an order that fits what they require, the same at every run."""

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush

from installer.plan.model import Step


def in_order(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps sorted so that each comes after what it requires, otherwise as they were given.

    Raises:
        ValueError: a step is there twice, requires an unknown one, or a circle cannot be resolved.
    """
    place = {step.id: number for number, step in enumerate(steps)}
    if len(place) != len(steps):
        raise ValueError("two steps have the same id")
    for step in steps:
        if unknown := set(step.requires) - place.keys():
            raise ValueError(f"step {step.id} requires {', '.join(sorted(unknown))}, which is no step")
    sorter = TopologicalSorter({step.id: step.requires for step in steps})
    try:
        sorter.prepare()
    except CycleError as error:
        raise ValueError(f"steps require each other in a circle: {' -> '.join(error.args[1])}") from error
    ready = [place[each] for each in sorter.get_ready()]
    heapify(ready)
    ordered = []
    while ready:
        step = steps[heappop(ready)]
        ordered.append(step)
        sorter.done(step.id)
        for each in sorter.get_ready():
            heappush(ready, place[each])
    return tuple(ordered)
