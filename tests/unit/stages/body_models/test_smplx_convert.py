"""Old model files become plain arrays; hostile ones run nothing."""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from typer.testing import CliRunner

from schemas.errors import ConfigError
from stages.body_models.pickled_arrays import ArrayUnpickler, plain, read_arrays
from stages.body_models.smplx import check_smplx, read_model
from stages.body_models.smplx_convert import convert_smplx
from stages.kit.isolate import ChildBudget

KEYS = ("v_template", "J_regressor")


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *args):
        self.parts = (function, args)

    def __reduce__(self):
        return self.parts


@pytest.fixture
def chumpy(monkeypatch: pytest.MonkeyPatch) -> type:
    """A class that pickles under chumpy's name, as the real one did: fields in a dictionary."""

    class Ch:
        def __init__(self, x):
            self.x, self._dirty_vars = x, set()

    Ch.__module__, Ch.__qualname__ = "chumpy.ch", "Ch"
    package, module = types.ModuleType("chumpy"), types.ModuleType("chumpy.ch")
    module.Ch = Ch
    monkeypatch.setitem(sys.modules, "chumpy", package)
    monkeypatch.setitem(sys.modules, "chumpy.ch", module)
    return Ch


def write(path: Path, value: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


def old_names(path: Path) -> Path:
    """Names as Python 2, numpy 1 and scipy 0 wrote them."""
    data = path.read_bytes()
    for new, old in (
        (b"numpy._core.multiarray", b"numpy.core.multiarray"),
        (b"scipy.sparse._csc", b"scipy.sparse.csc"),
    ):
        data = data.replace(new, old)
    path.write_bytes(data)
    assert b"numpy.core.multiarray" in data
    return path


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_arrays_come_back_whoever_wrote_them(tmp_path: Path, chumpy, protocol: int) -> None:
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(7, 3))
    regressor = sparse.random(5, 7, 0.4, "csc", rng=rng)
    path = write(
        tmp_path / "a.pkl",
        {"v_template": chumpy(vertices), "J_regressor": sparse.csc_matrix(regressor), "b": 1},
        protocol,
    )
    for _ in range(2):
        found = read_arrays(path, KEYS)
        assert np.allclose(found["v_template"], vertices)
        assert np.allclose(found["J_regressor"], regressor.toarray())
        if protocol == 2:
            old_names(path)


def test_python_2_strings_and_integers(tmp_path: Path) -> None:
    """The opcodes that Python 2 wrote for an array: a str of raw bytes."""
    raw = np.arange(6, dtype="<u4").tobytes()
    state = b"(I1\n(I2\nI3\ntcnumpy\ndtype\n(S'u4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nT"
    state += len(raw).to_bytes(4, "little") + raw + b"tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR" + state
    (tmp_path / "a.pkl").write_bytes(b"(dS'f'\n" + array + b"s.")
    assert read_arrays(tmp_path / "a.pkl", ("f",))["f"].tolist() == [[0, 1, 2], [3, 4, 5]]


HOSTILE = {
    "os.system": Call(os.system, "touch {mark}"),
    "eval": Call(eval, "open('{mark}', 'w')"),
    "getattr": Call(getattr, Call(__import__, "os"), "system"),
    "np.load": Call(np.load, "{mark}"),
    "numpy file": Call(np.memmap, "{mark}", "u1", "w+"),
    "import": Call(__import__, "antigravity"),
    "codec": Call(__import__("_codecs").encode, "abc", "rot13"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_what_a_pickle_asks_to_run_is_refused(tmp_path: Path, name: str, protocol: int) -> None:
    mark = tmp_path / "ran"
    function, args = HOSTILE[name].parts
    bomb = Call(function, *(a.format(mark=mark) if isinstance(a, str) else a for a in args))
    path = write(tmp_path / "a.pkl", {"v_template": bomb, "J_regressor": np.ones(3)}, protocol)
    with pytest.raises(ConfigError, match=r"a\.pkl is refused"):
        read_arrays(path, KEYS)
    assert not mark.exists()


def test_no_call_reaches_further_than_arrays_and_bags(tmp_path: Path) -> None:
    """Rebuilding, setting state, attributes of what is allowed: none of them leads out."""
    import copyreg

    class State:
        def __reduce__(self):
            return (np.ndarray, ((1,),), (1, (1,), os.system, False, b"touch x"))

    for value in (Call(copyreg._reconstructor, np.ndarray, object, None), State()):
        with pytest.raises((pickle.UnpicklingError, TypeError)):
            ArrayUnpickler(io.BytesIO(pickle.dumps(value, 2))).load()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "not a dictionary"),
        ({"v_template": np.ones(3)}, r"has no \['J_regressor'\]"),
        ({"v_template": "text", "J_regressor": np.ones(3)}, "v_template is no array"),
        ({"v_template": np.array([np.nan]), "J_regressor": np.ones(3)}, "not finite"),
        ({"v_template": np.array(["a"]), "J_regressor": np.ones(3)}, "v_template is no array"),
    ],
)
def test_what_is_no_model_is_said(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_arrays(write(tmp_path / "a.pkl", value), KEYS)


@pytest.mark.parametrize("field", ["indices", "indptr", "_shape"])
def test_a_sparse_matrix_that_points_outside_is_refused(tmp_path: Path, field: str) -> None:
    matrix = sparse.csc_matrix(np.eye(4))
    bad = {
        "indices": np.array([0, 1, 2, 900]),
        "indptr": np.array([0, 1, 2, 3, 99]),
        "_shape": (2, 4),
    }
    matrix.__dict__[field] = bad[field]
    path = write(tmp_path / "a.pkl", {"v_template": np.ones(2), "J_regressor": matrix})
    with pytest.raises(ConfigError, match="refused"):
        read_arrays(path, KEYS)


def test_a_chumpy_expression_is_no_array(chumpy) -> None:
    bag = ArrayUnpickler(io.BytesIO(pickle.dumps(chumpy(chumpy(np.ones(2))), 2))).load()
    assert plain("v", bag).tolist() == [1, 1]
    bag = ArrayUnpickler(io.BytesIO(pickle.dumps(chumpy(None), 2))).load()
    with pytest.raises(ConfigError, match="evaluate it in chumpy"):
        plain("v", bag)


@pytest.mark.parametrize("content", [b"", b"\x80\x02}q\x00", b"PK\x03\x04broken", b"\xff" * 100])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.pkl"):
        read_arrays(tmp_path / "a.pkl", KEYS)


# ---- the whole command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> dict[str, np.ndarray]:
    pytest.importorskip("smplx", reason="the smplx extra is not installed")
    from tests.unit.stages.body_models.toy_body import model_data

    return model_data()


def run(*args: object):
    from jobs.cli import app

    return CliRunner().invoke(app, ["models", "convert-smplx", *map(str, args)])


def test_a_converted_pickle_is_read_by_the_backend(tmp_path: Path, chumpy, model) -> None:
    old = dict(model)
    old["v_template"] = chumpy(model["v_template"].astype(np.float64))
    old["J_regressor"] = sparse.csc_matrix(model["J_regressor"])
    old["kintree_table"] = model["kintree_table"].astype(
        np.uint32
    )  # the root's parent is 2**32 - 1
    old["part2num"] = {"pelvis": 0}
    source, target = write(tmp_path / "old.pkl", old), tmp_path / "new.npz"
    with pytest.raises(ConfigError, match="handloom models convert-smplx"):
        check_smplx(str(source))
    done = run(source, target)
    assert done.exit_code == 0, done.output
    assert "10475 x 3" in done.output
    found = read_model(str(target))
    for key, value in found.items():
        assert np.allclose(
            value[:, 1:] if key == "kintree_table" else value,
            model[key][:, 1:] if key == "kintree_table" else model[key],
        )
    check_smplx(str(target))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".convert")] == []


def test_an_archive_with_pickled_members_is_converted(tmp_path: Path, model) -> None:
    single = np.empty((), object)
    single[()] = sparse.csc_matrix(model["J_regressor"])
    np.savez(tmp_path / "old.npz", **{**model, "J_regressor": single})
    with pytest.raises(ConfigError, match="convert-smplx"):
        read_model(str(tmp_path / "old.npz"))
    convert_smplx(tmp_path / "old.npz", tmp_path / "new.npz")
    assert np.allclose(read_model(str(tmp_path / "new.npz"))["J_regressor"], model["J_regressor"])


def test_a_hostile_pickle_ends_the_command_with_exit_code_2(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    source = write(tmp_path / "evil.pkl", {"v_template": Call(os.system, f"touch {mark}")})
    assert any(op.name == "GLOBAL" for op, _, _ in pickletools.genops(source.read_bytes()))
    done = run(source, tmp_path / "new.npz")
    assert done.exit_code == 2
    assert "asks for posix.system, which builds no array" in " ".join(done.stderr.split())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.pkl"]


def test_a_pickle_that_fills_the_memory_meets_its_limit(tmp_path: Path) -> None:
    huge = Call(np.ndarray, (10**11,), "f8")
    source = write(tmp_path / "huge.pkl", {"v_template": huge})
    with pytest.raises(ConfigError, match=r"cannot be read within .*: out_of_memory"):
        convert_smplx(source, tmp_path / "new.npz", ChildBudget(60, 4_000_000_000))


def test_a_reader_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    source = write(tmp_path / "slow.pkl", {})
    with pytest.raises(ConfigError, match="timeout"):
        convert_smplx(source, tmp_path / "new.npz", ChildBudget(0.01, 4_000_000_000))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("no.pkl", "new.npz", "is not a file"),
        ("old.pkl", "new.pkl", r"must end in \.npz"),
        ("old.pkl", "there.npz", "exists"),
    ],
)
def test_names_are_checked_first(tmp_path: Path, source: str, target: str, message: str) -> None:
    write(tmp_path / "old.pkl", {})
    (tmp_path / "there.npz").write_bytes(b"mine")
    with pytest.raises(ConfigError, match=message):
        convert_smplx(tmp_path / source, tmp_path / target)
    assert (tmp_path / "there.npz").read_bytes() == b"mine"
