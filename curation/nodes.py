"""Before any work: every node of the cluster proves that it sees the same root and the sources.

A folder may be another disk on another machine, and credentials of the driver's environment do not travel. So the
driver writes a random token into the root; each node reads it back and opens one source of each place. Weights, packages
and Handloom's version are a machine's own too: each node says whether it has the same stages.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.chain import AnyStage
from curation.root.store import PROBE_FOLDER, Store, StoreOptions, is_remote, redact
from schemas.errors import ConfigError, HandloomError

_ANSWER_S = 300.0
_SETTLE_TRIES = 4
_MAX_PLACES = 8
_ACCESS_PREFIXES = ("AWS_", "GOOGLE_", "AZURE_")
_TWO_WAYS = "use a mount that all nodes share, or a bucket (s3://, gs://, az://)"


@dataclass(frozen=True, slots=True)
class RootProof:
    """A token in the root: who reads it there looks at the same root as the driver."""

    name: str
    token: str

    def check(self, store: Store) -> None:
        """Read the token back.

        Raises:
            ConfigError: This process does not see the driver's root.
        """
        problem = self.problem(store)
        if problem:
            raise ConfigError(
                f"{socket.gethostname()} does not see the output root {redact(store.uri)}: {problem}; "
                f"{_TWO_WAYS}"
            )

    def problem(self, store: Store) -> str:
        """What is wrong with the root as this process sees it; empty if it is the driver's."""
        for attempt in range(_SETTLE_TRIES):
            time.sleep(min(attempt, 1))  # network mounts may show a new file late
            try:
                found = store.read(self.name)
            except FileNotFoundError:
                continue
            except HandloomError as error:
                return str(error)
            return "" if found == self.token.encode() else "another root lies there"
        return "what the driver wrote is not there"


@dataclass(frozen=True, slots=True)
class Sight:
    """What one node sees: problems in words, empty if there are none."""

    root_problem: str = ""
    source_problem: str = ""
    source_uri: str = ""
    stage_problem: str = ""


class NodeCheck:
    """Checks every node once; a context within which the token lies in the root.

    Args:
        store: The output root.
        source_options: How to reach remote sources.
        source_uris: Addresses of all sources.
        run_id: The run's id.
        stages: What the nodes will run.
    """

    def __init__(
        self,
        store: Store,
        source_options: StoreOptions,
        source_uris: Sequence[str],
        run_id: str,
        stages: Sequence[AnyStage] = (),
    ) -> None:
        self._stages = tuple(stages)
        self._store, self._source_options = store, source_options
        self._uris = tuple(one_of_each_place(source_uris))
        self._proven: set[str] = set()
        self.proof = RootProof(f"{PROBE_FOLDER}/{run_id}", secrets.token_hex(16))

    def __enter__(self) -> NodeCheck:
        """Write the token."""
        self._store.put_mine(self.proof.name, self.proof.token.encode())
        return self

    def __exit__(self, *_: object) -> None:
        """Take the token away."""
        try:
            self._store.delete(self.proof.name)
        except HandloomError:
            return  # vacuum finds it; the run's own error, if any, says more

    def check(self) -> None:
        """Ask one node that has not answered yet, then all the others.

        Raises:
            ConfigError: A node does not see the root or the sources, or does not answer.
        """
        import ray  # where all is known, a run needs none of it

        nodes = [n for n in ray.nodes() if n["Alive"] and n["Resources"].get("CPU", 0) > 0]
        if len(nodes) == 1 and not os.environ.get("RAY_ADDRESS"):
            return  # this machine's own; its workers check for themselves
        new = [n for n in nodes if n["NodeID"] not in self._proven]
        for some in (new[:1], new[1:]):
            self._check_some(some)
            self._proven |= {n["NodeID"] for n in some}

    def _check_some(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        names = tuple(sorted(n for n in os.environ if n.startswith(_ACCESS_PREFIXES)))
        readable = tuple(u for u in self._uris if not _source_problem(u, self._source_options))
        question = (self.proof, self._store, self._source_options, readable)
        asked = [
            (n, _ask(n, look, *question, self._stages_for(n)), _ask(n, unset_of, names))
            for n in nodes
        ]
        deadline = time.monotonic() + _ANSWER_S
        problems = []
        for node, sight, unset in asked:
            problem = self._answer(sight, unset, max(1.0, deadline - time.monotonic()))
            problems += [f"node {_label(node)} {problem}"] if problem else []
        if problems:
            more = f" ({len(problems) - 1} more nodes as well)" if len(problems) > 1 else ""
            raise ConfigError(problems[0] + more)

    def _stages_for(self, node: Mapping[str, Any]) -> dict[str, AnyStage]:
        """The stages that the node is big enough for, by the fingerprint that they have here."""
        cpus, gpus = (node["Resources"].get(kind, 0) for kind in ("CPU", "GPU"))
        return {
            s.fingerprint: s
            for s in self._stages
            if s.resources.num_cpus <= cpus and s.resources.num_gpus <= gpus
        }

    def _answer(self, sight: Any, unset: Any, patience_s: float) -> str:
        import ray

        try:
            names = ray.get(unset, timeout=patience_s)
        except ray.exceptions.GetTimeoutError:
            return f"does not answer in {_ANSWER_S:.0f} s"
        except ray.exceptions.RayError as error:
            last = ([line for line in str(error).splitlines() if line.strip()] or ["no word"])[-1]
            return f"cannot run Handloom: {last.strip()}; the same version must be installed there"
        try:
            seen = ray.get(sight, timeout=patience_s)
        except ray.exceptions.GetTimeoutError:
            seen = Sight(root_problem=f"no answer from it in {_ANSWER_S:.0f} s")
        return describe(seen, self._store, names)


def _ask(node: Mapping[str, Any], question: Callable[..., Any], *args: object) -> Any:
    """Run a function on one node and no other, also where all CPUs are taken."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    task = ray.remote(num_cpus=0, max_retries=1)(question)
    return task.options(scheduling_strategy=there).remote(*args)


def one_of_each_place(uris: Sequence[str]) -> list[str]:
    """One address for each folder or bucket that sources lie in, a few at most.

    >>> one_of_each_place(["/a/1.mp4", "/a/2.mp4", "s3://b/x/1.mp4", "s3://b/y/2.mp4"])
    ['/a/1.mp4', 's3://b/x/1.mp4']
    """
    places: dict[str, str] = {}
    for uri in uris:
        place = "/".join(uri.split("/")[:3]) if is_remote(uri) else uri.rpartition("/")[0]
        places.setdefault(place, uri)
    return list(places.values())[:_MAX_PLACES]


def look(
    proof: RootProof,
    store: Store,
    source_options: StoreOptions,
    source_uris: Sequence[str],
    stages: Mapping[str, AnyStage],
) -> Sight:
    """What the process that runs this sees of the root, the sources and the stages."""
    problem = proof.problem(store)
    if problem:
        return Sight(root_problem=problem)
    for uri in source_uris:
        problem = _source_problem(uri, source_options)
        if problem:
            return Sight(source_problem=problem, source_uri=uri)
    return Sight(stage_problem=_stage_problem(stages))


def _stage_problem(stages: Mapping[str, AnyStage]) -> str:
    for fingerprint, travelled in stages.items():
        stage = type(travelled)(travelled.config)  # nothing that the driver has computed
        try:
            if not stage.resources.num_gpus:  # this task holds none and would see none
                stage.check()
            found = stage.fingerprint
        except (HandloomError, OSError, ImportError) as error:
            return f"cannot run stage {stage.name}: {error}"
        if found != fingerprint:
            return (
                f"has another stage {stage.name}: its weights or its version of Handloom are not those of "
                "the driver; install the same there"
            )
    return ""


def unset_of(names: Sequence[str]) -> tuple[str, ...]:
    """Which of some variables the process that runs this does not have."""
    return tuple(name for name in names if not os.environ.get(name))


def describe(sight: Sight, store: Store, unset: Sequence[str] = ()) -> str:
    """A node's problem in words, with what to do; empty if it has none."""
    if sight.stage_problem:
        return sight.stage_problem
    if not sight.root_problem and not sight.source_problem:
        return ""
    uri = store.uri if sight.root_problem else sight.source_uri
    what = "the output root" if sight.root_problem else "the source"
    problem = sight.root_problem or sight.source_problem
    said = f"does not see {what} {redact(uri)}: {problem}"
    if not is_remote(uri):
        return f"{said}; {_TWO_WAYS}"
    if not unset:
        return f"{said}; check what that node may reach"
    return (
        f"{said}; {', '.join(unset)} are set here but not there: a cluster that RAY_ADDRESS names does "
        "not get this environment; set them where Ray is started on that node, or give the node a role"
    )


def _source_problem(uri: str, options: StoreOptions) -> str:
    parent, _, name = uri.rpartition("/")
    try:
        store = Store(parent or "/", options if is_remote(uri) else StoreOptions())
        next(store.stream(name), b"")
    except FileNotFoundError:
        return "it is not there"
    except HandloomError as error:
        return str(error)
    return ""


def _label(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
