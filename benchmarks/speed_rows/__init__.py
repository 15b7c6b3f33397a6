"""The rows of `speed.py`: what is measured, and beside what. One kind of measurement a module."""
