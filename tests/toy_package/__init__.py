"""What a package of a user's own adds to packnet_pl: each thing is one file here, and one yaml in conf/."""
