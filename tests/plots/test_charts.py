import numpy as np
import pytest

from keras_umd import plots

pytestmark = pytest.mark.host


def test_the_guidance_grid_has_a_cell_for_each_scale_and_number_of_steps():
    pytest.importorskip("matplotlib")

    class Model:
        def generate(self, labels, guidance, num_steps, seed):
            return np.full((len(labels), 20, 20, 1), 10 * guidance + num_steps, "uint8")

    picture = plots.guidance_grid(Model(), [0, 1, 2, 3], guidance=(1, 2), num_steps=(3, 5, 7))
    rows = {tuple(np.unique(row)[:-1]) for row in picture[..., 0]}
    for guidance in (1, 2):
        assert any({10 * guidance + steps for steps in (3, 5, 7)} <= set(row) for row in rows)


def test_heat_maps_show_a_sweep_with_the_best_outlined():
    settings = [(sampler, steps, scale) for sampler in ("ddim", "heun") for steps in (10, 20) for scale in (1.0, 2.0)]
    table = [
        {"sampler": sampler, "num_steps": steps, "guidance": scale, "fid": float(i)}
        for i, (sampler, steps, scale) in enumerate(settings)
    ]
    pictures = [plots.heatmaps(table, "fid", "guidance", "num_steps", smallest) for smallest in (True, False)]
    for picture, is_left in zip(pictures, (True, False), strict=True):
        assert picture.dtype == np.uint8 and picture.shape[-1] == 3
        red = np.argwhere((picture == (255, 0, 0)).all(axis=-1))
        assert len(red) > 50  # around the first cell of the left panel, or the last one of the right
        assert (red[:, 1].max() < picture.shape[1] / 2) == is_left
    with pytest.raises(ValueError, match="'kid'"):
        plots.heatmaps(table, "kid", "guidance", "num_steps")


def test_every_point_and_every_cell_is_drawn():
    alone = plots.scatter({"a": (1.0, 0.5, None)}, "cost", "accuracy")
    both = plots.scatter({"a": (1.0, 0.5, None), "b": (2.0, 0.7, 0.1)}, "cost", "accuracy")
    assert alone.dtype == np.uint8 and alone.shape == both.shape and alone.shape[-1] == 3

    def coloured(picture, blue):  # the first point is blue, the second orange
        red, _, last = np.moveaxis(picture.astype(int), -1, 0)
        return np.any(last - red > 80) if blue else np.any(red - last > 80)

    assert coloured(alone, blue=True) and not coloured(alone, blue=False)
    assert coloured(both, blue=True) and coloured(both, blue=False)

    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0)]
    cells = [np.full((40, 60, 3), colour, "uint8") for colour in colours]
    picture = plots.captioned([cells[:2], cells[2:]], ["up", "down"], ["left", "right"])
    centers = [np.argwhere((picture == colour).all(axis=-1)).mean(axis=0) for colour in colours]
    assert centers[0][0] < centers[2][0] and centers[0][1] < centers[1][1]
    assert centers[1][0] < centers[3][0] and centers[2][1] < centers[3][1]
