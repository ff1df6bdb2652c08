"""The inputs and results of the client: images, examples, operations, answers."""
