"""The promise checker, and what it is tried on: networks, optimizers and modules as users have them."""
