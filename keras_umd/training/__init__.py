"""Optimizers as in the paper, and callbacks for long runs."""
