"""Downloads a zoo entry from the Hub at one commit and checks its hashes, as trainer.datasets.hub does for data."""

import errno
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

from trainer.errors import CorruptFile, Refused, Unavailable
from trainer.files import file_sha256, write_file
from trainer.zoo import ModelEntry, remedies
from trainer.zoo.weights import WEIGHTS

PICKLE = "pytorch_model.bin"
SOURCE = "source.json"  # the Hub id and the commit of the files
FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
)
TIMEOUT_S = 5


def download(entry: ModelEntry, folder: Path, *, allow_pickle: bool = False) -> Path:
    """Download an entry's config, tokenizer and weights into `folder`, and return the weights file.

    Takes safetensors if the repository has them; its pickle only with `allow_pickle` (Refused otherwise). Raises
    Unavailable if the entry is not on the Hub or the Hub does not answer within TIMEOUT_S, and CorruptFile if a file
    does not match the Hub's checksum.
    """
    if entry.hub_id is None:
        raise Unavailable(f"{entry.id} is not on the Hub.", next_step=remedies(entry))
    api = HfApi()
    with _explained(entry):
        info = api.model_info(entry.hub_id, revision=entry.revision, files_metadata=True, timeout=TIMEOUT_S)
    offered = {file.rfilename: file.lfs.sha256 if file.lfs else None for file in info.siblings or ()}
    weights = _choose_weights(entry, offered, allow_pickle)
    for name in (*FILES, weights):
        if name not in offered:
            continue
        with _explained(entry):
            api.hf_hub_download(entry.hub_id, name, revision=info.sha, local_dir=folder, etag_timeout=TIMEOUT_S)
        if offered[name] and file_sha256(folder / name) != offered[name]:
            raise CorruptFile(
                f"{name} of {entry.hub_id} does not match the Hub's checksum.", next_step="Fetch it again."
            )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # bookkeeping of the client
    write_file(folder / SOURCE, json.dumps({"hub_id": entry.hub_id, "revision": info.sha}, indent=2).encode())
    return folder / weights


def _choose_weights(entry: ModelEntry, offered: Mapping[str, str | None], allow_pickle: bool) -> str:
    if WEIGHTS in offered:
        return WEIGHTS
    if PICKLE not in offered:
        raise Unavailable(f"{entry.hub_id} offers neither {WEIGHTS} nor {PICKLE}.", next_step=remedies(entry))
    if not allow_pickle:
        raise Refused(
            f"{entry.hub_id} offers its weights only as a pickle, which can run code when read.",
            next_step=f"`stillroom zoo fetch {entry.id} --allow-pickle` reads it once, tensors only, in a process of "
            "its own, and keeps safetensors.",
        )
    return PICKLE


@contextmanager
def _explained(entry: ModelEntry) -> Iterator[None]:
    """Turn errors of the Hub client into Unavailable, except a full disk."""
    try:
        yield
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        revision = entry.revision or "main"
        raise Unavailable(
            f"The Hub answered {status} for {entry.hub_id} at {revision}.", next_step=remedies(entry)
        ) from None
    except OfflineModeIsEnabled:
        raise Unavailable(
            f"{entry.hub_id} cannot be fetched: HF_HUB_OFFLINE is set.",
            next_step=f"Unset it for this one command. {remedies(entry)}",
        ) from None
    except (HTTPError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise Unavailable(
            f"{entry.hub_id} cannot be fetched: the Hub cannot be reached from here ({type(error).__name__}).",
            next_step=remedies(entry),
        ) from None
