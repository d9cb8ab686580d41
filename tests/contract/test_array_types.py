"""A name of an array type means one dtype in all packages: it is made in stages/kit/arrays.py alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOME = ROOT / "stages/kit/arrays.py"
FILES = [
    path
    for package in ("stages", "curation", "jobs", "training", "handloom")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path != HOME
]


def aliases(source: str) -> list[str]:
    """Names that a module gives to array types."""
    made = [node for node in ast.parse(source).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    return [
        ast.unparse(node)
        for node in made
        if node.value is not None
        and isinstance(node.value, ast.Subscript)
        and "NDArray[" in ast.unparse(node.value).replace("np.ndarray", "NDArray[")
    ]


@pytest.mark.parametrize(
    "line",
    [
        "Float = NDArray[np.float64]",
        "A = dict[str, NDArray[Any]]",
        "F: TypeAlias = Float[np.ndarray, 'n']",
    ],
)
def test_an_alias_is_told_from_other_constants(line):
    assert aliases(line) == [ast.unparse(ast.parse(line).body[0])]
    assert aliases("LIMITS = dict[str, int]\nX = np.zeros(3)[0]") == []


def test_array_types_have_one_home():
    found = {str(path.relative_to(ROOT)): aliases(path.read_text()) for path in FILES}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_name_has_two_homes_and_names_say_their_dtype():
    names = [line.partition(" = ")[0] for line in aliases(HOME.read_text())]
    assert len(names) == len(set(names))
    dtypes = dict(line.split(" = ") for line in aliases(HOME.read_text()))
    for name, dtype in (("F32", "float32"), ("F64", "float64"), ("U8", "uint8"), ("I64", "int64")):
        assert dtypes[name] == f"NDArray[np.{dtype}]"
