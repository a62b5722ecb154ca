"""Guest images: what vendors publish, fetched and verified, and made into disks that guests can start from.

All of it runs under the account of whoever asks: nothing privileged reads a byte of what comes from elsewhere before it is a
plain qcow2 file or an ISO.
"""
