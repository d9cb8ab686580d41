import numpy as np
import pytest

from stages.caption import CaptionConfig, colour_name, describe_product


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((250, 240, 240), "white"),
        ((30, 60, 180), "blue"),
        ((230, 200, 50), "yellow"),
        ((8, 8, 8), "black"),
    ],
)
def test_colours_have_their_everyday_names(rgb, name):
    assert colour_name(np.full((9, 3), rgb, np.uint8)) == name


def test_shape_comes_from_the_cut_out_alone():
    picture = np.full((100, 100, 3), 255, np.uint8)
    picture[10:90, 40:60] = (200, 40, 40)
    assert describe_product(picture) == "a tall red object"
    assert describe_product(picture.transpose(1, 0, 2)) == "a wide red object"
    assert describe_product(np.full((9, 9, 3), 255, np.uint8)) == "an object"


def test_the_structure_prompt_names_its_ground():
    assert CaptionConfig().hoi_prefix.startswith("Black background")
