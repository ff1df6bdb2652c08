"""The command: `python -m servable` is `servable`. The SDK is `servable_client`."""
