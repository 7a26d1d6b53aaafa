"""The parts of `benchmarks/on_device.py`: each measures one thing in a process of its own."""
