"""Recipe files: found by name or path, read safely, changed by words of the command line."""

from __future__ import annotations

import pytest

from schemas.errors import ConfigError
from schemas.recipes import apply_change, read_recipe


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "short.yaml").write_text("description: few words\nstage: {a: 1, b: {c: 2}}\n")
    return tmp_path


def test_a_recipe_is_found_by_name_or_path_and_called_as_its_file(folder, tmp_path_factory):
    expected = {"name": "short", "description": "few words", "stage": {"a": 1, "b": {"c": 2}}}
    raw = read_recipe("short", folder)
    assert (raw.label, raw.settings) == ("short.yaml", expected)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert read_recipe(folder / "short.yaml", elsewhere).settings == expected
    (elsewhere / "mine.yml").write_text("name: given")
    assert read_recipe(str(elsewhere / "mine.yml"), folder).settings == {"name": "given"}


def test_an_unknown_recipe_names_the_known_ones(folder):
    with pytest.raises(ConfigError, match=r"no recipe 'shrt'.*\['short'\]"):
        read_recipe("shrt", folder)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "!!python/object/apply:os.system ['true']", "\x1b[31m"])  # fmt: skip
def test_what_is_not_a_plain_mapping_is_refused(folder, text):
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError):
        read_recipe("bad", folder)


def test_a_file_that_is_no_recipe_by_its_size_is_not_read(folder):
    (folder / "big.yaml").write_bytes(b"a: " + b"x" * 1_000_001)
    with pytest.raises(ConfigError, match="not a recipe"):
        read_recipe("big", folder)


def test_a_change_takes_the_place_of_what_was_there_and_its_value_is_yaml(folder):
    changes = ["stage.a=1.5", "stage.b={d: false}", "other.deep.key=[1, x]"]
    settings = read_recipe("short", folder, changes).settings
    assert settings["stage"] == {"a": 1.5, "b": {"d": False}}
    assert settings["other"] == {"deep": {"key": [1, "x"]}}


def test_a_change_that_unfolds_without_end_is_a_short_error():
    levels = ", ".join(
        ["&a0 [x, x, x, x, x, x, x, x, x, x]"]
        + [f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    )
    with pytest.raises(ConfigError, match="aliases"):
        apply_change({}, f"quality.x=[{levels}]")
