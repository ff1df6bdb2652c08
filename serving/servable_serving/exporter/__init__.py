"""Export of a Keras model as a SavedModel with the model contract."""
