"""libvirt's storage pools, made to agree with what the host declares. No volume is ever removed."""
