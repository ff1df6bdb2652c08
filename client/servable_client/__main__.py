"""`python -m servable_client` is the command `servable`."""

from servable_client._command import main

main()
