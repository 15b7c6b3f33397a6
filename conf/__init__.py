"""The configurations; installed as packnet_pl.conf."""
