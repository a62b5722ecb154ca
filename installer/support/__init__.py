"""The support bundle: everything that helps to find out what went wrong, in one file, without a secret in it."""

from installer.support.bundle import Bundle, make_bundle

__all__ = ["Bundle", "make_bundle"]
