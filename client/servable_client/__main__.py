"""`python -m servable_client`, an older name of `python -m servable`."""

from servable_client.cli.app import main

main()
