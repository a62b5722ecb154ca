"""Parts of devices for guests: virtual functions of network cards and the like, mediated devices of graphics cards."""
