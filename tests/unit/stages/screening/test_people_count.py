import numpy as np

from stages.screening.people_count import count_faces, grow, is_other_person


def silhouette(x0, x1, y0=20, y1=100):
    mask = np.zeros((120, 160), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_a_silhouette_beside_the_first_is_somebody_else():
    first = silhouette(20, 60)
    assert is_other_person(silhouette(90, 120), first, grow(first, 0.03))


def test_what_is_left_of_the_first_person_is_nobody():
    first = silhouette(20, 60)
    grown = grow(first, 0.03)
    assert not is_other_person(silhouette(30, 66), first, grown)  # a sleeve that sticks out
    assert not is_other_person(silhouette(90, 95, 20, 40), first, grown)  # a speck far away


def test_faces_are_people_unless_printed_on_what_is_held():
    matte = silhouette(20, 80)
    main, printed, friend = (30, 25, 20, 20), (50, 70, 6, 6), (110, 40, 9, 9)
    boxes = np.array([main, printed, friend], float)
    assert count_faces(boxes, [0.9, 0.8, 0.7], matte) == 2
    assert count_faces(boxes[:2], [0.9, 0.8], matte) == 1
    assert count_faces(np.zeros((0, 4)), [], matte) == 0
