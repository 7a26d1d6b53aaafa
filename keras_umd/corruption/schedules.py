"""The noise schedule: how much of an image is left at each timestep."""

import keras
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
        with np.errstate(divide="ignore"):
            self._log_snr = np.log(self.alpha_bar) - np.log1p(-self.alpha_bar)

    def log_snr(self, timesteps):
        """log(alpha_bar / (1 - alpha_bar)) at timesteps that may lie between two integers, in float64 on the host.

        Between integers it is linear, so that a sampler can take any steps it likes.

        Args:
            timesteps: Array of numbers, each 0 (infinite) or in [1, T].
        """
        timesteps = np.asarray(timesteps, "float64")
        steps = np.arange(1, self.num_timesteps + 1)
        return np.where(timesteps == 0, np.inf, np.interp(timesteps, steps, self._log_snr[1:]))

    def timesteps_at(self, log_snr):
        """The timesteps in [1, T] of given log-SNRs: the inverse of `log_snr`."""
        steps = np.arange(self.num_timesteps, 0, -1)
        return np.interp(log_snr, self._log_snr[:0:-1], steps)

    def levels(self, timesteps):
        """What is left of the image and how much noise there is at `timesteps`, in float64 on the host.

        Args:
            timesteps: Array of numbers, as of `log_snr`.

        Returns:
            Dictionary of float64 arrays of the shape of `timesteps`: `timestep`, `signal` and `sigma`.
        """
        log_snr = self.log_snr(timesteps)
        return {
            "timestep": np.asarray(timesteps, "float64"),
            "signal": 1 / np.sqrt(1 + np.exp(-log_snr)),
            "sigma": 1 / np.sqrt(1 + np.exp(log_snr)),
        }

    def signal_and_sigma(self, timesteps, rank=4):
        """Factors of the image and of the noise at `timesteps`, each of shape `(batch, 1, 1, 1)` for rank 4.

        Args:
            timesteps: Tensor of shape `(batch,)`: integers in [0, T], or floats, 0 or in [1, T].
            rank: Integer, that of the images.
        """
        shape = (-1,) + (1,) * (rank - 1)
        if "int" in keras.backend.standardize_dtype(timesteps.dtype):
            signal = ops.take(ops.convert_to_tensor(self._signal), timesteps)
            sigma = ops.take(ops.convert_to_tensor(self._sigma), timesteps)
        else:
            before = ops.cast(ops.floor(timesteps), "int32")
            after = ops.minimum(before + 1, self.num_timesteps)
            table = ops.convert_to_tensor(self._log_snr.astype("float32"))
            share = timesteps - ops.cast(before, timesteps.dtype)
            log_snr = (1 - share) * ops.take(table, before) + share * ops.take(table, after)
            signal, sigma = ops.sqrt(ops.sigmoid(log_snr)), ops.sqrt(ops.sigmoid(-log_snr))
        return ops.reshape(signal, shape), ops.reshape(sigma, shape)

    def add_noise(self, images, noise, timesteps):
        """x_t from x_0 (Eq. 1).

        Args:
            images, noise: Float tensors of one shape, `(batch, ...)`.
            timesteps: Tensor of shape `(batch,)`, as of `signal_and_sigma`.
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
