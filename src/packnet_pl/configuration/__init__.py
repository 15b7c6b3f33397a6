"""From a command line to plain objects: configurations, composed, checked and built. Hydra ends here."""
