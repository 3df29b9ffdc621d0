"""Arrays of mapped files read through, without keeping what was read in memory."""

import numpy as np
import pytest

from models import crosses
from models.crosses import inverse_norm
from models.files import mapped_anew


def test_a_mapped_array_is_mapped_anew_whole_and_in_its_order(tmp_path):
    for order in ("C", "F"):
        given = np.asarray(np.arange(12, dtype=np.float32).reshape(3, 4), order=order)
        np.save(tmp_path / "a.npy", given)
        mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
        anew = mapped_anew(mapped)
        np.testing.assert_array_equal(anew, given)
        assert anew.base is not mapped.base and not anew.flags.writeable


def test_what_is_no_whole_mapped_file_is_given_back(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    part = np.load(tmp_path / "a.npy", mmap_mode="r")[:, :-1]
    plain = np.arange(3.0)
    assert mapped_anew(part) is part and mapped_anew(plain) is plain


@pytest.mark.parametrize("block", [1, 2, 5, 9])
def test_lengths_are_those_of_all_rows_however_many_at_once(monkeypatch, block):
    monkeypatch.setattr(crosses, "NORMED", block)
    vectors = np.array([[3, 4], [0, 0], [1, 0], [6, 8], [0, 2]], np.float32)
    np.testing.assert_allclose(inverse_norm(vectors), [0.2, 1e12, 1, 0.1, 0.5], rtol=1e-6)
