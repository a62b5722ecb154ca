"""Virtual machines as values: what is asked for, and what libvirt is told. Nothing here touches the world."""
