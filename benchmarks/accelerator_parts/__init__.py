"""The parts of `benchmarks/accelerator.py`, one module each; `part` says what a part is."""
