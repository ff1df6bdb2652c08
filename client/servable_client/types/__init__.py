"""What the client takes and gives back: images, examples, operations, answers."""
