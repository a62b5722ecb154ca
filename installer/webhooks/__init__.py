"""Webhooks: servers are told how an installation goes; they can neither hold it up nor make it fail."""

from installer.webhooks.watcher import WebhookWatcher, make_client

__all__ = ["WebhookWatcher", "make_client"]
