"""What a user may start from Python: a curation, and sampling a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handloom.root import Root, open_root

if TYPE_CHECKING:
    from jobs.sampling import Film
    from model.sample_types import SampleResult


def curate(
    sources: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    recipe: str | Path = "default",
    settings: Mapping[str, object] | None = None,
    endpoint_url: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
) -> Root:
    """Curate videos into a root, as ``handloom curate`` does: finished work is found again, nothing is overwritten.

    How far it is goes to stderr. Ray is started unless the work is tiny.

    Args:
        sources: Video files, folders or bucket addresses; one or several.
        out: The root: new, or from an earlier run.
        recipe: A recipe's name or the path of a YAML file.
        settings: Changes to it by dotted key, such as ``{"speech.gate.require_speech": False}``.
        endpoint_url: Endpoint of an S3-compatible store, for sources and root.
        region: Region of the store.
        anonymous: Access stores without credentials.

    Returns:
        The root, opened at this run. ``report().verdict`` says whether its gates passed.

    Raises:
        ConfigError: Anything about the request is wrong; nothing was written then.
        HandloomError: The run ended early; the same call goes on where it was.
    """
    from jobs import options
    from jobs.progress import RunProgress
    from jobs.requests import Looks, prepare

    given = [sources] if isinstance(sources, str | Path) else sources
    access = options.store_options(endpoint_url, region, anonymous)
    curation = prepare(
        [str(s) for s in given], str(out), str(recipe), _changes(settings), access, Looks()
    )
    with RunProgress() as progress:
        record = curation.run(progress)
    root = open_root(
        out, run=record.run_id, endpoint_url=endpoint_url, region=region, anonymous=anonymous
    )
    root.report()  # every run has its page
    return root


def sample(
    checkpoint: str | Path,
    *,
    root: str | Path | None = None,
    person: str | Path | None = None,
    product: str | Path | None = None,
    audio: str | Path | None = None,
    prompt: str = "",
    settings: Mapping[str, object] | None = None,
) -> SampleResult:
    """Sample a video from a checkpoint, as ``handloom sample`` does.

    Args:
        checkpoint: A training folder or one of its checkpoints.
        root: A local root whose first kept clip gives what is not given here.
        person: Picture of the person.
        product: Picture of the product.
        audio: Sound from the first frame on.
        prompt: Description of the clip.
        settings: Of sampling, such as ``{"steps": 40, "seed": 1, "with_hoi": True}``.

    Returns:
        Frames at 25 per second, the structure stream if it was asked for, and the sound that was heard.

    Raises:
        ConfigError: Something needed is missing, or does not fit the checkpoint.
    """
    from jobs.sampling import build_request, sample_config
    from model.sampler import Sampler
    from model.training.state import find_checkpoint, read_state

    config, folder = sample_config(_changes(settings)), find_checkpoint(Path(checkpoint))
    pictures = (_path(person), _path(product))
    hears = read_state(folder).hears
    request = build_request(*pictures, _path(audio), prompt, _path(root), hears=hears)
    return Sampler(folder, config).run(request)


def write_mp4(path: str | Path, film: Film) -> None:
    """Write what was decoded or sampled as an mp4 with sound; a structure stream goes to ``.hoi.mp4`` beside it.

    Raises:
        ConfigError: A file of that name exists, or ffmpeg is not installed.
    """
    from jobs.sampling import check_free, write_result

    check_free(Path(path))
    write_result(Path(path), film)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _changes(settings: Mapping[str, object] | None) -> list[str]:
    """Settings in the form of ``--set``: JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in (settings or {}).items()]
