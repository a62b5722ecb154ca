"""What a host's network is, and which changes of it have to be confirmed."""
