import csv

import keras
import numpy as np
import pytest

from keras_umd import callbacks
from tests.conftest import array


def test_a_run_leaves_its_model_and_history_and_no_backup(small_model, images, tmp_path):
    model = small_model()
    model.compile("adamw")
    model.fit(images, batch_size=8, epochs=2, verbose=0, callbacks=callbacks.standard(tmp_path / "run"))
    loaded = keras.models.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(loaded.predict(images, verbose=0), model.predict(images, verbose=0))
    with open(tmp_path / "run" / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert {"loss", "clean_x0_loss"} <= set(rows[0])


def test_a_killed_run_goes_on_where_it_was(small_model, images, tmp_path):
    class Killed(Exception):
        pass

    def kill(epoch, logs):
        if epoch == 1:
            raise Killed

    def fit(*more):
        model = small_model()
        model.compile("adamw")
        run = callbacks.standard(tmp_path / "run")
        model.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0, callbacks=[*run, *more])
        return model

    with pytest.raises(Killed):
        fit(keras.callbacks.LambdaCallback(on_epoch_begin=kill))
    resumed = fit()
    assert int(array(resumed.optimizer.iterations)) == 6
    uninterrupted = small_model()
    uninterrupted.compile("adamw")
    uninterrupted.fit(images, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for value, expected in zip(resumed.get_weights(), uninterrupted.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_nan_raises_and_keeps_the_last_good_backup(small_model, images, tmp_path):
    model = small_model()
    model.compile("adamw")

    def spoil(epoch, logs):
        if epoch == 1:
            model.decoder.mask_token.assign(np.full(16, np.nan))

    run = [keras.callbacks.LambdaCallback(on_epoch_begin=spoil), *callbacks.standard(tmp_path / "run")]
    with pytest.raises(RuntimeError, match="NaN"):
        model.fit(images, batch_size=8, epochs=3, verbose=0, callbacks=run)
    saved = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert np.isfinite(array(saved.decoder.mask_token)).all()
    assert any((tmp_path / "run" / "backup").iterdir())
