"""Losses reach TensorBoard's files, and the callbacks of W&B and MLflow, for which stand-ins take notes here."""

import sys
import types

import keras
import pytest

from keras_umd import callbacks
from tests.conftest import QUICK

pytestmark = pytest.mark.host


@pytest.fixture
def fit(shared_model, images):
    def fit(*more, epochs=2):
        model = shared_model({"optimizer": "adamw", **QUICK})
        return model.fit(images, batch_size=8, epochs=epochs, verbose=0, callbacks=[*more]).history

    return fit


def test_tensorboard_gets_the_losses_of_each_epoch(fit, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = fit(*callbacks.standard(tmp_path / "run", log_to="tensorboard"))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(history["loss"])
    assert [event.step for event in events.Scalars("learning_rate")] == [3, 6]


@pytest.mark.parametrize(
    ("name", "module", "callback"),
    [("wandb", "wandb.integration.keras", "WandbMetricsLogger"), ("mlflow", "mlflow.keras", "MlflowCallback")],
)
def test_callbacks_of_other_packages_stand_before_the_checkpoint(name, module, callback, fit, tmp_path, monkeypatch):
    seen = []

    class StandIn(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(logs["loss"])

    parts = module.split(".")
    for i in range(len(parts)):
        stand_in = types.ModuleType(".".join(parts[: i + 1]))
        stand_in.__path__ = []
        monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    setattr(stand_in, callback, StandIn)
    standard = callbacks.standard(tmp_path / "run", log_to=[name, name])
    assert [isinstance(each, StandIn) for each in standard].index(True) < len(standard) - 1
    assert seen == [] and fit(*standard)["loss"] == seen and len(seen) == 2


def test_what_is_missing_or_unknown_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ImportError, match="pip install wandb"):
        callbacks.standard(tmp_path / "run", log_to=["wandb"])
    with pytest.raises(ValueError, match="`log_to` must be one of .*tensorboard.*Received: log_to='csv'"):
        callbacks.standard(tmp_path / "run", log_to=["csv"])
    assert len(callbacks.standard(tmp_path / "run")) == 5
