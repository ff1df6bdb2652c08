"""The `servable` command: the app, its console and the client's sub-commands."""
