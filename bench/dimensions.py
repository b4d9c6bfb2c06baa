"""What a model's weights are made of, as far as memory depends on it: matrices that a level may quantize, and other numbers."""

from dataclasses import dataclass
from typing import NamedTuple


class Linear(NamedTuple):
    """Linear layers of one shape."""

    outputs: int
    inputs: int
    copies: int = 1

    @property
    def numbers(self) -> int:
        return self.outputs * self.inputs * self.copies


@dataclass(frozen=True)
class Part:
    """Some of a model's weights."""

    linears: tuple[Linear, ...] = ()
    others: int = 0
    """Norms, biases, tables, experts: numbers that stay in the type of computing whatever the level."""

    @property
    def numbers(self) -> int:
        return sum(linear.numbers for linear in self.linears) + self.others

    def __add__(self, other: "Part") -> "Part":
        return Part(self.linears + other.linears, self.others + other.others)

    def __mul__(self, count: int) -> "Part":
        repeated = tuple(linear._replace(copies=linear.copies * count) for linear in self.linears)
        return Part(repeated, self.others * count)


@dataclass(frozen=True)
class Layer:
    """One decoder layer."""

    part: Part
    adapted: tuple[Linear, ...]
    """The linear layers of attention and MLP."""
    heads: int
    query: int
    """Width of all heads' queries together."""
    intermediate: int
    """Width inside the MLP that a token takes: of all the experts that are chosen for it."""
    cached: int
    """Numbers of keys and values that it caches per token; 0 where it reads another layer's."""
    window: int | None
    """Tokens that it looks back; `None`: all."""


def linear(outputs: int, inputs: int, *, bias: bool = False, copies: int = 1) -> Part:
    return Part((Linear(outputs, inputs, copies),), outputs * copies if bias else 0)
