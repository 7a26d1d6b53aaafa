"""Writes paths.npz: trajectories of diffusers' samplers for flows and for EDM, with linear functions for networks.

Run with diffusers 0.42 and PyTorch, which the tests don't need: `python tests/golden/make_paths.py`.
"""

import pathlib

import numpy as np
import torch
from diffusers import EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

NUM_STEPS = 8
NOISE = torch.tensor(np.random.default_rng(0).normal(size=(2, 3)), dtype=torch.float64)


def flow(shift):
    """Euler's method on a rectified flow; the network gives the velocity, noise - image."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(NUM_STEPS)
    states = [NOISE]
    for timestep in scheduler.timesteps:
        velocity = 0.4 * states[-1] - 0.2 + 0.1 * timestep.double() / 1000
        states.append(scheduler.step(velocity, timestep, states[-1]).prev_sample.double())
    return {"sigmas": scheduler.sigmas.double().numpy(), "states": torch.stack(states).numpy()}


def edm():
    """Euler's method in sigma; the network gets the scaled image and ln(sigma) / 4, and is preconditioned."""
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(NUM_STEPS)
    states = [NOISE * scheduler.init_noise_sigma]
    for timestep in scheduler.timesteps:
        scaled = scheduler.scale_model_input(states[-1], timestep)
        output = 0.3 * scaled + 0.1 * timestep
        states.append(scheduler.step(output, timestep, states[-1]).prev_sample.double())
    return {"sigmas": scheduler.sigmas.double().numpy(), "states": torch.stack(states).numpy()}


cases = {"flow": flow(1.0), "flow_shift3": flow(3.0), "edm": edm()}
arrays = {f"{case}.{name}": value for case, values in cases.items() for name, value in values.items()}
np.savez_compressed(pathlib.Path(__file__).with_name("paths.npz"), **arrays)
