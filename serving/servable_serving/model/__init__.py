"""A SavedModel: loading, contract, preprocessing. TensorFlow begins here."""
