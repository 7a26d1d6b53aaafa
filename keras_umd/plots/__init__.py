"""Pictures: grids of images, charts, the course of a training; all are uint8 arrays, which a notebook shows."""

from keras_umd.plots.attention import attention_grid
from keras_umd.plots.charts import captioned, guidance_grid, heatmaps, scatter
from keras_umd.plots.figures import save_image, show
from keras_umd.plots.grids import image_grid, reconstruction_grid, strips
from keras_umd.plots.masks import masks
from keras_umd.plots.progress import progress

__all__ = [
    "attention_grid",
    "captioned",
    "guidance_grid",
    "heatmaps",
    "image_grid",
    "masks",
    "progress",
    "reconstruction_grid",
    "save_image",
    "scatter",
    "show",
    "strips",
]
