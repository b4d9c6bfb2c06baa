"""Models on the Hugging Face hub: which commit a name means, and its files on disk. A token comes from `HF_TOKEN`, read by
`huggingface_hub` itself. Files that code could hide in are not fetched."""

import contextlib
import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import write_atomically
from bench.catalog import nearest
from bench.local_weights import has_chat_template
from bench.preparing import MissingDependencyError, MissingWeightsError, Progress, UnsupportedWeightsError, WeightsError
from results.errors import UsageError

HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+))?")

_FILES = ["*.safetensors", "*.json", "*.jinja", "tokenizer*", "vocab.txt", "merges.txt"]
_LEFT_OUT = ["*/*", "consolidated*"]  # other formats of the same weights


@dataclass(frozen=True)
class HubModel:
    hub_id: str
    commit: str
    quantization: str | None
    """The method that the published weights are quantized with."""
    chat: bool
    """A chat template is known to come with it."""


def find(hub_id: str, revision: str | None = None, *, endpoint: str | None = None, cache_dir: Path | None = None) -> HubModel:
    """The model's commit, from the hub or, when that is out of reach, from what was downloaded before.

    Raises:
        UsageError: there is no such model or revision.
        MissingWeightsError: the hub is out of reach, or refuses.
        MissingDependencyError: `huggingface_hub` is not installed.
    """
    with _explained(hub_id, revision):
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError

        try:
            info = HfApi(endpoint=endpoint).model_info(hub_id, revision=revision, timeout=10)
        except (HTTPError, OSError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            try:
                return _downloaded(hub_id, revision, cache_dir)
            except LocalEntryNotFoundError:
                raise error from None
        config = info.config or {}
        chat = bool((config.get("tokenizer_config") or {}).get("chat_template") or config.get("chat_template_jinja"))
        return HubModel(hub_id, info.sha, _quantization(config), chat)


def _downloaded(hub_id: str, revision: str | None, cache_dir: Path | None) -> HubModel:
    folder = _snapshot(hub_id, revision, cache_dir)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return HubModel(hub_id, folder.name, _quantization(config), has_chat_template(folder))


def _snapshot(hub_id: str, revision: str | None, cache_dir: Path | None) -> Path:
    """The folder of a whole download, found without the network; `LocalEntryNotFoundError` where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    folder = Path(
        snapshot_download(
            hub_id, revision=revision, cache_dir=cache_dir, local_files_only=True,
            allow_patterns=_FILES, ignore_patterns=_LEFT_OUT,
        )
    )  # fmt: skip
    index = folder / "model.safetensors.index.json"
    parts = set(json.loads(index.read_text("utf-8"))["weight_map"].values()) if index.is_file() else {"model.safetensors"}
    if not all((folder / name).is_file() for name in ("config.json", *parts)):
        raise LocalEntryNotFoundError(f"the download of {hub_id} is not whole")
    return folder


def _quantization(config: dict[str, Any]) -> str | None:
    quantized = config.get("quantization_config")
    return str(quantized.get("quant_method", "quantized")) if quantized else None


def download(
    model: str, commit: str, progress: Progress, *, endpoint: str | None = None, cache_dir: Path | None = None
) -> Path:  # fmt: skip
    """The folder with the model's weights, configuration and tokenizer; files that are there are not fetched again.

    Args:
        model: as it was asked for, `organisation/name[@revision]`: found again under that revision without the hub.
        commit: what that stands for.

    Raises:
        UsageError: the model is gone from the hub.
        MissingWeightsError: the hub is out of reach, or refuses.
        UnsupportedWeightsError: the model has no safetensors.
    """
    hub_id, _, revision = model.partition("@")
    progress(f"looking for {hub_id}", None)
    with _explained(hub_id, commit):
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = _snapshot(hub_id, commit, cache_dir)
        except LocalEntryNotFoundError:
            folder = _fetch(hub_id, commit, progress, endpoint, cache_dir)
    if revision != commit:
        with contextlib.suppress(OSError):
            reference = folder.parents[1] / "refs" / (revision or "main")
            reference.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(reference, commit)
    return folder


def _fetch(hub_id: str, commit: str, progress: Progress, endpoint: str | None, cache_dir: Path | None) -> Path:
    from huggingface_hub import HfApi, snapshot_download

    HfApi(endpoint=endpoint).model_info(hub_id, revision=commit, timeout=10)  # says at once what a download would say late
    folder = Path(
        snapshot_download(
            hub_id, revision=commit, endpoint=endpoint, cache_dir=cache_dir,
            allow_patterns=_FILES, ignore_patterns=_LEFT_OUT, tqdm_class=_byte_bar(f"downloading {hub_id}", progress),
        )
    )  # fmt: skip
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise UnsupportedWeightsError(
            f"{hub_id} holds no safetensors weights: take another model, or download its .gguf file and name that"
        )
    return folder


def _byte_bar(step: str, progress: Progress) -> Any:
    """A tqdm class that draws nothing and tells the share of the bytes that have arrived."""
    from huggingface_hub.utils import tqdm

    class ByteBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self.counts_bytes = kwargs.get("unit") == "B"
            self.arrived = 0.0
            super().__init__(*args, **kwargs | {"disable": True})

        def update(self, n: float | None = 1) -> None:
            self.arrived += n or 0
            if self.counts_bytes and self.total:
                progress(step, min(self.arrived / self.total, 1.0))

    return ByteBar


@contextlib.contextmanager
def _explained(hub_id: str, revision: str | None) -> Iterator[None]:
    """Turns what `huggingface_hub` raises into one sentence with a remedy."""
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingDependencyError(f'{hub_id} comes from the hub: pip install "gemmeter[transformers]"')
    from huggingface_hub import errors

    page = f"https://huggingface.co/{hub_id}"
    try:
        yield
    except errors.GatedRepoError as error:
        raise MissingWeightsError(
            f"{hub_id} is gated: accept its licence at {page}, then set HF_TOKEN to a token of that account"
        ) from error
    except errors.RepositoryNotFoundError as error:
        close = [one for one in nearest(hub_id) if one != hub_id]
        raise UsageError(
            f"there is no folder {hub_id!r}, and the hub has no such model, or only for others"
            + (f"; the nearest in the catalog are {', '.join(close)}" if close else "")
            + " (for a private one set HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{hub_id} has no revision {revision!r}: take one of {page}/commits") from error
    except errors.HFValidationError as error:
        raise UsageError(f"{hub_id!r} is no hub id: it has the form organisation/name") from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        remedy = "check HF_TOKEN" if code in (401, 403) else "try again later"
        raise MissingWeightsError(f"the hub answered {code} for {hub_id}: {remedy}") from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, ConnectionError, TimeoutError) as error:
        raise MissingWeightsError(
            f"{hub_id} is not on this machine and the hub cannot be reached: connect, unset HF_HUB_OFFLINE, "
            "or name a model that was downloaded before"
        ) from error
    except (OSError, RuntimeError) as error:  # full disks, and whatever the Xet client meets
        raise WeightsError(
            f"the files of {hub_id} did not arrive ({error}): try again, or set HF_HOME to a folder with more space"
        ) from error
