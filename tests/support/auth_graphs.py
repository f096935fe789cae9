"""Auth graphs made by chance, and what holds in them by the definition."""

from __future__ import annotations

from random import Random

KEYS = [("m.room.create", ""), ("m.room.power_levels", ""), *(("m.room.member", f"@{name}:a") for name in "abcd")]


def random_graph(rng: Random, size: int) -> dict[str, tuple[tuple[str, str], tuple[str, ...]]]:
    """By event id its key and what it cites: any earlier events, several of a key, some twice as deep as others."""
    graph: dict[str, tuple[tuple[str, str], tuple[str, ...]]] = {"$0": (KEYS[0], ())}
    for number in range(1, size):
        recent = list(graph)[-rng.choice([3, 8, size]) :]
        cited = tuple(dict.fromkeys(rng.choices(recent, k=rng.randrange(1, 5))))
        graph[f"${number}"] = (rng.choice(KEYS[1:]), cited)
    return graph


def random_order(rng: Random, graph: dict[str, tuple[tuple[str, str], tuple[str, ...]]]) -> list[str]:
    """Any order in which everything comes after what it cites."""
    ordered: list[str] = []
    left = set(graph)
    while left:
        ready = sorted(event_id for event_id in left if not left & set(graph[event_id][1]))
        ordered.append(rng.choice(ready))
        left.discard(ordered[-1])
    return ordered


def chain_of(graph: dict[str, tuple[tuple[str, str], tuple[str, ...]]], event_id: str) -> set[str]:
    found: set[str] = set()
    todo = list(graph[event_id][1])
    while todo:
        current = todo.pop()
        if current not in found:
            found.add(current)
            todo.extend(graph[current][1])
    return found
