import numpy as np
import pytest

from keras_umd.evaluation import rank_me

pytestmark = pytest.mark.host


def test_the_rank_is_the_number_of_equally_used_dimensions():
    for dims in (1, 3, 8):
        directions = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0][:dims]
        features = np.concatenate([directions, -directions] * 5)
        np.testing.assert_allclose(rank_me(features), dims, rtol=1e-4)


def test_two_dimensions_of_different_use():
    shares = np.array([0.75, 0.25])
    expected = np.exp(-np.sum(shares * np.log(shares)))
    np.testing.assert_allclose(rank_me(np.diag([3.0, 1.0])), expected, rtol=1e-5)


def test_what_is_no_set_of_features_is_refused():
    with pytest.raises(ValueError, match=r"\(4,\)"):
        rank_me(np.zeros(4))
