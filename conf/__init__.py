"""The configurations; installed as packnet_pl.conf. Networks by name are among them."""

from packnet_pl.configuration.arch_names import store_networks

store_networks()
