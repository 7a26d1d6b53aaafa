"""Optimizers and callbacks for the paper's two stages of training."""
