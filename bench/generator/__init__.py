"""Measures the generator: `python -m bench.generator --device cpu|cuda --json FILE`."""
