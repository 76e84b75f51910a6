"""Kinds of faults, and how those of a round are drawn."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True)
class Fault:
    """One fault, drawn: `needs` names what it needs for itself while it lasts."""

    name: str
    what: str
    needs: frozenset[str]
    run: Callable[[World], Awaitable[None]] = field(compare=False)


class Kind(NamedTuple):
    """Draws faults of one name; with `only`, where the world is like that (`world.traits`)."""

    name: str
    draw: Callable[[random.Random, int], Fault]
    only: str


KINDS: list[Kind] = []


def kind(*needs: str, only: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a maker: it draws from a generator and returns what is done, and how."""

    def register(make: Callable[[random.Random, int], tuple[str, Any]]) -> Any:
        def draw(rng: random.Random, replicas: int) -> Fault:
            what, run = make(rng, replicas)
            return Fault(make.__name__, what, frozenset(needs), run)

        KINDS.append(Kind(make.__name__, draw, only))
        return make

    return register


def possible(traits: Set[str]) -> list[Kind]:
    """What may go wrong in a world with these traits."""
    return [one for one in KINDS if not one.only or one.only in traits]


def draw_round(rng: random.Random, replicas: int, traits: Set[str]) -> list[Fault]:
    """One fault, or two that do not need the same thing."""
    kinds = possible(traits)
    chosen = [rng.choice(kinds).draw(rng, replicas)]
    if rng.random() < 0.4:
        other = rng.choice(kinds).draw(rng, replicas)
        if not other.needs & chosen[0].needs:
            chosen.append(other)
    return chosen
