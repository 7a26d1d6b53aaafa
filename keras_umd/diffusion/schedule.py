"""The noise schedule: how much of an image is left at each timestep."""

import numpy as np
from keras import ops


class NoiseSchedule:
    """Variance-preserving noise with an added noise-free step (Eq. 1 and section 4).

        x_t = sqrt(alpha_bar[t]) * x_0 + sqrt(1 - alpha_bar[t]) * noise

    `alpha_bar` has `num_timesteps + 1` entries: entry 0 is the clean image, `alpha_bar[0] = 1`, and entries 1 to T are
    those of DDPM. Tables are made in float64 and used in float32.

    Args:
        name: `"cosine"` (Nichol and Dhariwal, Eq. 17; for pixels) or `"linear"` (DDPM; for latents).
        num_timesteps: Integer, T.
    """

    def __init__(self, name="cosine", num_timesteps=1000):
        if not isinstance(num_timesteps, int) or num_timesteps < 1:
            raise ValueError(f"`num_timesteps` must be a positive integer. Received: num_timesteps={num_timesteps}")
        self.name = name
        self.num_timesteps = num_timesteps
        self.alpha_bar = np.concatenate([[1.0], np.cumprod(1.0 - _betas(name, num_timesteps))])
        self._signal = np.sqrt(self.alpha_bar).astype("float32")
        self._sigma = np.sqrt(1.0 - self.alpha_bar).astype("float32")

    def signal_and_sigma(self, timesteps, rank=4):
        """Factors of the image and of the noise at `timesteps`, each of shape `(batch, 1, 1, 1)` for rank 4."""
        shape = (-1,) + (1,) * (rank - 1)
        signal = ops.take(ops.convert_to_tensor(self._signal), timesteps)
        sigma = ops.take(ops.convert_to_tensor(self._sigma), timesteps)
        return ops.reshape(signal, shape), ops.reshape(sigma, shape)

    def add_noise(self, images, noise, timesteps):
        """x_t from x_0 (Eq. 1).

        Args:
            images, noise: Float tensors of one shape, `(batch, ...)`.
            timesteps: Int tensor of shape `(batch,)`, values in `[0, num_timesteps]`.
        """
        signal, sigma = self.signal_and_sigma(timesteps, len(images.shape))
        return signal * images + sigma * noise

    def predict_x0(self, x_t, noise, timesteps):
        """The x_0 that `noise` implies at `x_t`: Eq. 1 solved for the image."""
        signal, sigma = self.signal_and_sigma(timesteps, len(x_t.shape))
        return (x_t - sigma * noise) / signal

    def predict_noise(self, x_t, x0, timesteps):
        """The noise that `x0` implies at `x_t`, for `timesteps` of at least 1: Eq. 1 solved for the noise."""
        signal, sigma = self.signal_and_sigma(timesteps, len(x_t.shape))
        return (x_t - signal * x0) / sigma


def _betas(name, num_timesteps):
    if name == "cosine":
        edges = np.cos((np.arange(num_timesteps + 1) / num_timesteps + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1.0 - edges[1:] / edges[:-1], 0.999)
    if name == "linear":
        scale = 1000.0 / num_timesteps
        betas = np.linspace(1e-4 * scale, 0.02 * scale, num_timesteps)
        if betas[-1] >= 1:
            raise ValueError(f"The linear schedule needs over 20 timesteps. Received: num_timesteps={num_timesteps}")
        return betas
    raise ValueError(f"`schedule` must be 'cosine' or 'linear'. Received: schedule={name!r}")
