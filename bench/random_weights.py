"""Models whose weights are drawn at random for the true architecture: real speed and memory, nothing to download."""

from bench.weights import ResolvedModel


def random_model(reference: str, where: str) -> ResolvedModel:
    """The architecture of a catalog model, or of a local folder's config.json, as a model without weights of its own.

    Args:
        where: what the message of an error begins with.

    Raises:
        UsageError: no such model, or its dimensions are not known.
    """
    raise NotImplementedError
