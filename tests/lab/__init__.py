"""The lab: real machines in QEMU in which the installer really runs."""
