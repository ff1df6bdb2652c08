"""What the client takes and gives back: images, examples, questions, answers."""
