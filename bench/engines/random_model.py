"""A model of transformers with random weights, built in place: no other format of the whole and no second copy is ever made."""

from collections.abc import Mapping
from typing import Any

from results.cases import Case


def build(architecture: Mapping[str, Any], case: Case) -> Any:
    """A model for text generation on the case's device, in evaluation mode, its weights drawn from one seed.

    Args:
        architecture: the configuration as in `config.json`, with `model_type`.
    """
    raise NotImplementedError


class StandInTokenizer:
    """Turns text into ids of a vocabulary that it does not know: with random weights nothing means anything."""
