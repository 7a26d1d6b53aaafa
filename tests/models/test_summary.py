"""`summary` says what a model is and learns, and shows all its parameters."""

import pytest

from keras_umd import UMD, Corruption
from keras_umd.models.summary import describe

pytestmark = pytest.mark.host


def test_the_summary_has_description_and_table(small_model, capsys):
    model = small_model(num_classes=3)
    lines = []
    model.summary(print_fn=lambda line, **_: lines.append(line))
    text = "\n".join(lines)
    assert f"{model.count_params():,}" in text and "decoder" in text
    assert lines[0] == describe(model)
    model.summary()
    assert describe(model) in capsys.readouterr().out


def test_the_description_counts_what_is_seen_and_learned(small_model):
    text = describe(small_model(num_classes=3))
    assert "images      8 x 8, 1 channel" in text
    assert "patches     4 x 4 of 2 x 2, 4 numbers each" in text
    assert "condition   noise level and 3 classes, by adaln_zero" in text
    assert "clean view  0.5 of a batch, no noise, 4 of 16 patches seen; learns x0 of masked patches" in text
    assert "10 of 16 patches seen; learns x0 of masked patches, eps of visible patches" in text


@pytest.mark.parametrize("method", ["mae", "dit", "sit", "fgmae", "videomae"])
def test_every_kind_of_model_has_a_summary(method, capsys):
    shape = {"videomae": ((4, 32, 32, 3), (2, 8, 8)), "fgmae": ((16, 16, 13), (8, 8))}.get(
        method, ((16, 16, 3), (8, 8))
    )
    sizes = {"hidden_dim": 32, "num_layers": 1, "num_heads": 2, "decoder_layers": 1, "decoder_hidden_dim": 16}
    UMD(*shape, **sizes, **UMD.presets[method]()).summary()
    assert "16 wide, 1 head; predicts" in capsys.readouterr().out


def test_a_model_without_a_condition_says_so():
    sizes = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "decoder_layers": 1}
    model = UMD((8, 8, 1), 2, **sizes, conditioning=None, corruption=Corruption.mae())
    assert "condition   none" in describe(model)
