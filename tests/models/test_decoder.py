"""A decoder of another width than the encoder's."""

import keras
import numpy as np
import pytest

from tests.conftest import QUICK, array, trained_like


@pytest.mark.parametrize("conditioning", ["adaln_zero", "token", None])
def test_every_weight_of_a_narrower_decoder_is_trained(small_model, images, conditioning):
    model = trained_like(small_model(decoder_hidden_dim=8, conditioning=conditioning))
    assert model.decoder.num_heads == 1  # as wide as the encoder's
    assert model.decoder.mask_token.shape == (8,)
    before = [array(variable) for variable in model.trainable_variables]
    model.compile("sgd", **QUICK)
    model.fit(images[:8], verbose=0)
    same = [v.path for v, old in zip(model.trainable_variables, before, strict=True) if np.all(array(v) == old)]
    assert not [path for path in same if "key/bias" not in path]  # which softmax cancels
    assert model.encode(images).shape == (24, 16)
    assert model.reconstruct(images)["reconstruction"].shape == images.shape


def test_it_generates_fine_tuned_and_saved(small_model, tmp_path):
    """The sampler looks up modulations of two widths."""
    model = trained_like(small_model(decoder_hidden_dim=8).with_classes(3))
    settings = {"labels": [0, 2], "num_steps": 2, "seed": 0, "guidance_scale": 2.0}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.get_config()["decoder_hidden_dim"] == 8
    np.testing.assert_array_equal(loaded.generate(**settings), model.generate(**settings))


def test_without_a_width_nothing_changes(small_model):
    plain, same = (small_model(decoder_hidden_dim=width) for width in (None, 16))
    assert [v.path for v in plain.weights] == [v.path for v in same.weights]
    assert plain.decoder.embedding is None
    for own, other in zip(plain.weights, same.weights, strict=True):
        np.testing.assert_array_equal(array(own), array(other))
