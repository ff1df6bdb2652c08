"""The sub-commands of training; nothing here imports TensorFlow."""
