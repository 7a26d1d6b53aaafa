"""What a run says when it goes on and can't do what its user may expect."""

import warnings

import keras
import numpy as np
import pytest

from keras_umd import UMD, callbacks, recipes

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1)).astype("uint8")


class Stop(keras.callbacks.Callback):
    """Stops as a kill does: nothing behind it is told."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def train(folder, epochs, *others, **options):
    model = UMD((8, 8, 1), patch_size=2, hidden_dim=16, num_layers=1, num_heads=2, decoder_layers=1, seed=0)
    model.compile(recipes.pretraining_optimizer(8, batch_size=4, base_learning_rate=8e-3))
    run = callbacks.standard(folder, **options)
    return model.fit(IMAGES, batch_size=4, epochs=epochs, verbose=0, callbacks=[*run, *others])


@pytest.mark.host
@pytest.mark.filterwarnings("ignore")
def test_a_repeated_epoch_is_announced(tmp_path, capsys):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 2, Stop(), save_freq=2)
    capsys.readouterr()
    train(tmp_path, 2, save_freq=2)
    assert "epoch 1 begins again, with the weights after 2 of its steps" in capsys.readouterr().out


@pytest.mark.host
def test_more_epochs_than_the_schedule_has_are_announced(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path, 2)
    assert not any("learning rate is 0" in str(warning.message) for warning in caught)
    with pytest.warns(UserWarning, match="learning rate is 0 after 8 steps"):
        train(tmp_path, 3)
