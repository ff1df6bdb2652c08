"""`python -m servable` is the command `servable`."""

from servable_client.cli.app import main

main()
