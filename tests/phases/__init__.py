"""A machine in two phases, with a real systemd, sshd and sudo."""
