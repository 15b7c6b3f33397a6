"""From words on a command line to plain objects: configurations, checked and built. Hydra ends here."""
